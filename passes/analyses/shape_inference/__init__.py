"""Shape inference, operator by operator: dims of results, and the elements of shape arithmetic."""
