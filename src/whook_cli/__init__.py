"""whook: cli."""
