"""Mutation of models: new nodes, the `Rewriter` that all changes go through."""
