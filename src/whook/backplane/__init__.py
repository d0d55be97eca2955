"""whook.backplane."""
