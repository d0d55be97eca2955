"""The `whook` command: its subcommands, and how every way of ending becomes a line and an exit status.

Owns the cyclopts app and `main`. The modules that do the work are imported by the command that needs them, so
that help, version and completion start fast. Must never print a traceback for something that is not a defect.
"""

import sys
from io import TextIOWrapper
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from whook_cli.about import complain, say, version_line
from whook_cli.account_app import mount
from whook_cli.admin_app import mount as mount_admin
from whook_cli.config import Environment, Files
from whook_cli.events_app import mount as mount_events
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.options import (
    CLIENT_DRAIN,
    DEFAULT_PROJECT,
    SERVER_DRAIN,
    ForwardOptions,
    OutputOptions,
    ServerOptions,
    TunnelOptions,
)

DRAIN_HELP = "Seconds that requests in progress may take to finish after Ctrl-C or SIGTERM."
EPILOGUE = (
    "An option may also be set as WHOOK_OPTION_NAME in the environment, as option-name in ./whook.toml, or "
    "in the user's whook.toml; the first of these that has it counts."
)

app = App(
    name="whook",
    help="A self-hosted webhook tunnel: public webhooks reach a local server, and its answer the sender.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version=version_line,
    config=(Environment(), Files()),
    result_action="return_value",
)
completion = App(name="completion", help="Completion of commands and options in the shell.")
app.command(completion)
mount(app)
mount_events(app)
mount_admin(app)

Shell = Literal["bash", "zsh", "fish", "powershell"]
ShellOption = Annotated[Shell | None, Parameter(help="Which shell.", show_env_var=False)]


@app.command
def connect(
    project: Annotated[
        str | None, Parameter(help="Name of the project; it is made on first use if the token allows it.")
    ] = None,
    *,
    tunnel: Annotated[TunnelOptions, Parameter(name="*")] = TunnelOptions(),  # noqa: B008 frozen
    forward: Annotated[ForwardOptions, Parameter(name="*")] = ForwardOptions(),  # noqa: B008
    output: Annotated[OutputOptions, Parameter(name="*")] = OutputOptions(),  # noqa: B008
    drain_timeout: Annotated[float, Parameter(help=DRAIN_HELP)] = CLIENT_DRAIN,
) -> int:
    """Connect a project of a whook server to this machine: show its webhooks, forward them, answer them."""
    if not project:
        raise UsageError("which project?", hint='whook connect PROJECT, or project = "..." in whook.toml')
    from whook_cli.commands import run_connect

    return run_connect(project, tunnel, forward, output, drain_timeout)


@app.command
def dev(
    *,
    project: Annotated[str, Parameter(help="Name of the project.")] = DEFAULT_PROJECT,
    forward: Annotated[ForwardOptions, Parameter(name="*")] = ForwardOptions(),  # noqa: B008
    output: Annotated[OutputOptions, Parameter(name="*")] = OutputOptions(),  # noqa: B008
    server: Annotated[ServerOptions, Parameter(name="*")] = ServerOptions(),  # noqa: B008
    drain_timeout: Annotated[float, Parameter(help=DRAIN_HELP)] = CLIENT_DRAIN,
) -> int:
    """Run a whole server and a tunnel in one process, on this machine only."""
    from whook_cli.commands import run_dev

    return run_dev(project, forward, output, server, drain_timeout)


@app.command
def serve(
    *,
    server: Annotated[ServerOptions, Parameter(name="*")] = ServerOptions(),  # noqa: B008
    drain_timeout: Annotated[float, Parameter(help=DRAIN_HELP)] = SERVER_DRAIN,
) -> int:
    """Run a whole server in one process; clients come with `whook connect`."""
    from whook_cli.commands import run_serve

    return run_serve(server, drain_timeout)


@app.command
def version() -> None:
    """Print the version."""
    say(version_line())


@completion.command
def install(*, shell: ShellOption = None) -> None:
    """Install completion for the shell that is running (or --shell), in the user's own directory."""
    from whook_cli.completion import install_completion

    say(install_completion(app, shell))


@completion.command
def show(*, shell: ShellOption = None) -> None:
    """Print the completion script for the shell that is running (or --shell)."""
    from whook_cli.completion import completion_script

    say(completion_script(app, shell))


def run(arguments: list[str]) -> int:
    """Run one command line. Gives the exit status; prints one line for whatever ended it."""
    if arguments in (["--version"], ["-V"]):
        say(version_line())
        return ExitCode.OK
    try:
        return app(arguments, exit_on_error=False, print_error=False) or ExitCode.OK
    except CycloptsError as error:
        complain(" ".join(str(error).split()))
        return ExitCode.USAGE
    except Exit as error:
        if error.message:
            complain(str(error))
        return error.code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def main() -> None:
    """Entry point of the `whook` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))
