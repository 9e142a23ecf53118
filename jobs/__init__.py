"""What the tool does with models, above rewriting and running: one file per job, and what jobs share."""
