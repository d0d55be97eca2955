"""whook: relay."""
