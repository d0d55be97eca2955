"""How `whook` ends: the exit codes, and the one exception that carries one.

Owns the numbers that scripts may rely on. Raised by every module of the command line, turned into one
line on standard error and an exit status by `app.main` alone. Must never format a traceback: a failure
that has no `Exit` of its own is a defect and keeps its traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status of `whook` says. A number, once published, keeps its meaning."""

    OK = 0
    """Ended as asked, also after a drain."""
    INTERNAL = 1
    """A defect in whook itself."""
    USAGE = 2
    """An option, an environment variable or a configuration file says something that cannot be done."""
    UNREACHABLE = 3
    """The server could not be reached at the first attempt (later attempts go on for ever)."""
    UNAUTHORIZED = 4
    """No token, or one the server does not know, or that has expired or was revoked."""
    FORBIDDEN = 5
    """The token is good, but the project belongs to somebody else."""
    HELD = 6
    """Another client has the project, and neither `--takeover` nor `--watch` was given."""
    VERSION = 7
    """Client and server do not speak a common version of the tunnel protocol."""
    REPLACED = 8
    """Another client took the project over."""
    SERVER = 9
    """`whook dev` or `whook serve` could not start: a port is taken, the data directory is not usable."""
    NOT_FOUND = 10
    """There is no such project or event, as far as the token may see; or the event's body was not kept."""
    INCOMPLETE = 11
    """Some events could not be replayed or exported; a line on standard error names each."""
    INTERRUPTED = 130
    """Stopped at once by a second Ctrl-C or SIGTERM, with work still under way."""


class Exit(Exception):
    """End the process with `code` after one line that says why and, where there is one, the mend."""

    def __init__(self, code: ExitCode, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(Exit):
    """What was asked for cannot be done as it was written; always says how it should be written."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(ExitCode.USAGE, message, hint=hint)
