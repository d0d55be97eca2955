"""whook.wire."""
