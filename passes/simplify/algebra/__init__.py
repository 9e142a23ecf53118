"""Rules on elementwise arithmetic, logic and reductions."""
