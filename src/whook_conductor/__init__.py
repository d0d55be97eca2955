"""whook: conductor."""
