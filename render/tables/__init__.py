"""Tables of results on a terminal."""
