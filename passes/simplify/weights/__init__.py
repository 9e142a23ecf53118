"""Rules that fold scales, shifts and paddings into operators with weights."""
