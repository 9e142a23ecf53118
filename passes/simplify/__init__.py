"""Rules and passes that reduce work on every target."""
