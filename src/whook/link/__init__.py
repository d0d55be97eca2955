"""whook.link."""
