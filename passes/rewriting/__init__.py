"""Rewrite rules: patterns, conditions, builders and the driver that applies them."""
