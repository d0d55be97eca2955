"""whook.http1."""
