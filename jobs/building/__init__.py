"""Many models in one call: which jobs there are, where they run, and what an earlier run knows already."""
