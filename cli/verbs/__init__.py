"""One file per verb: what `optimize-graph VERB` does."""
