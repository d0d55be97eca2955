"""whook.chassis."""
