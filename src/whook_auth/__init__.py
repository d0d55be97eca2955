"""whook: auth."""
