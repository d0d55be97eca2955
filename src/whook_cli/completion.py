"""Shell completion: the script, and its place in the user's own directory.

Owns the translation of what cyclopts offers into messages of this program; `app` calls it for
`whook completion`. Must never write outside the user's home directory.
"""

from typing import Literal

from cyclopts import App

from whook_cli.exits import Exit, ExitCode, UsageError

Shell = Literal["bash", "zsh", "fish", "powershell"]


def _shell(shell: Shell | None) -> Shell:
    if shell is not None:
        return shell
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        return detect_shell()
    except ShellDetectionError:
        raise UsageError("cannot tell which shell this is", hint="say so: --shell bash") from None


def completion_script(app: App, shell: Shell | None) -> str:
    """Give the completion script for `shell`, or for the shell that is running."""
    return app.generate_completion(shell=_shell(shell))


def install_completion(app: App, shell: Shell | None) -> str:
    """Write the completion script where the shell looks for it; gives the line that says where."""
    try:
        path = app.install_completion(shell=(chosen := _shell(shell)))
    except OSError as error:
        where = error.filename or "the completion directory"
        raise Exit(ExitCode.USAGE, f"cannot write {where}: {error.strerror}") from None
    return f"completion for {chosen} is in {path}; it works in new shells"
