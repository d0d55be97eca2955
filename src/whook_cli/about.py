"""What `whook` says about itself, and its plain words outside a running session.

Owns the version line and the two ways to print one text. Used by `app` and `commands`; while a session runs,
`display` owns the output instead. Nothing may be written to standard error but through `complain`.
"""

import sys

from whook_cli.text import printable


def version_line() -> str:
    """Name and version of the program, as `whook version` prints it and the tunnel's HELLO says it."""
    from importlib.metadata import version as installed  # 20 ms that other commands need not pay

    return f"whook {installed('whook')}"


def say(text: str) -> None:
    """Print one text for people or pipes."""
    sys.stdout.write(f"{text}\n")


def complain(message: str) -> None:
    """Print one line on standard error, harmless whatever it quotes."""
    sys.stderr.write(f"whook: {printable(message)}\n")
