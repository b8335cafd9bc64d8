"""Values: what can be set, and the profiles that set it."""
