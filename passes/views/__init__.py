"""Views: chains of data movement over one source, composed, compared and emitted as the fewest operators."""
