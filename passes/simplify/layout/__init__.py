"""Rules and passes on Transposes and the layout of data."""
