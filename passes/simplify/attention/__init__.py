"""Rules on Attention, RotaryEmbedding and the Softmax of scores."""
