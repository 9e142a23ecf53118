"""Feeds for a model: files, generated sets, sizes of open dims."""
