"""What we claim, measurable again: one command each."""
