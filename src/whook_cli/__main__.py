"""`python -m whook_cli`: the same as the `whook` command."""

from whook_cli.app import main

main()
