"""The main job: rewrite, verify, isolate faults, tune, measure, deliver."""
