"""Shape inference: symbolic dims, facts about values, and how operators propagate them, by operator family."""
