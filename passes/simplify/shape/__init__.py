"""Rules and passes on views, Slice, Split, Concat and Gather."""
