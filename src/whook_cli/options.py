"""Every option of `whook`, once: its name, its type, its default and what its help says.

Owns the groups of options that the commands share; `app` turns them into flags, `config` into environment
variables (`--host-header` is `WHOOK_HOST_HEADER`) and file keys (`host-header`). Holds no logic: what an
option's value means is decided where it is used. Must import nothing that is slow to import.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

DEFAULT_SERVER = "http://127.0.0.1:8081"
"""API of a server started by `whook serve` on the same machine."""
DEFAULT_PROJECT = "demo"
"""Project of `whook dev`."""
CLIENT_DRAIN = 10.0
"""Seconds that `whook connect` and `whook dev` let requests in flight finish."""
SERVER_DRAIN = 25.0
"""Seconds that `whook serve` lets requests in flight finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """What happens to a webhook that arrives."""

    forward: Annotated[
        str | None,
        Parameter(
            help="Local server that gets the webhooks: a port, host:port, or an http or https URL whose path "
            "is put in front. Without it, webhooks are shown and answered here."
        ),
    ] = None
    host_header: Annotated[
        Literal["keep", "rewrite"],
        Parameter(
            help="Host header for the local server: as the sender wrote it, or rewritten to the local "
            "address for servers that accept only that."
        ),
    ] = "keep"
    insecure: Annotated[
        bool, Parameter(help="Do not verify the certificate of a local https server.", negative="")
    ] = False
    respond: Annotated[int, Parameter(help="Status to answer with when there is no --forward.")] = 200
    respond_body: Annotated[
        str | None,
        Parameter(
            help="Body to answer with when there is no --forward: a text, or @FILE. "
            "Default: JSON with the event id."
        ),
    ] = None
    max_exchanges: Annotated[
        int, Parameter(help="Requests in progress at once; more are refused with 503.")
    ] = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is printed."""

    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], help="Print headers and bodies as well.", negative="")
    ] = False
    json: Annotated[
        bool, Parameter(help="Print one JSON object per line on standard output.", negative="")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOptions:
    """Which server to connect to, and as whom."""

    server: Annotated[str, Parameter(help="URL of the server's API.")] = DEFAULT_SERVER
    token: Annotated[
        str | None,
        Parameter(help="Access token. Safer in WHOOK_TOKEN or a file: other users can see command lines."),
    ] = None
    takeover: Annotated[
        bool, Parameter(help="Take the project from the client that has it.", negative="")
    ] = False
    watch: Annotated[
        bool,
        Parameter(help="See every request to the project, answer none.", negative=""),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOptions:
    """Which server the account is on, and as whom to ask."""

    server: Annotated[str, Parameter(help="URL of the server's API.")] = DEFAULT_SERVER
    token: Annotated[str | None, Parameter(help="Access token. Default: that of whook login.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOptions:
    """Which server the login is on."""

    server: Annotated[str, Parameter(help="URL of the server's API.")] = DEFAULT_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The server of `whook dev` and `whook serve`. Port 0 takes any free port; times are in seconds."""

    listen: Annotated[str, Parameter(help="Address that webhooks, API and tunnels listen on.")] = "127.0.0.1"
    port: Annotated[int, Parameter(help="Port for webhooks.")] = 8080
    api_port: Annotated[int, Parameter(help="Port of the API.")] = 8081
    tunnel_port: Annotated[int, Parameter(help="Port that tunnels connect to.")] = 8082
    admin_port: Annotated[int, Parameter(help="Port of /metrics, /healthz, /readyz and /debug/tasks.")] = 8083
    auth_port: Annotated[int, Parameter(help="Port of the login pages and of the auth API.")] = 8084
    auth_url: Annotated[
        str | None,
        Parameter(help="How people reach the auth port, when a proxy stands in front: https://HOST."),
    ] = None
    admin_listen: Annotated[
        str, Parameter(help="Address that the admin port listens on. It asks for no password.")
    ] = "127.0.0.1"
    domain: Annotated[str, Parameter(help="Base domain: project shop is shop.DOMAIN.")] = "localhost"
    public_url: Annotated[
        str | None,
        Parameter(help="Scheme, base domain and port as senders see them, when a proxy stands in front."),
    ] = None
    tunnel_url: Annotated[
        str | None,
        Parameter(help="How clients reach the tunnel port, when a proxy stands in front: wss://HOST."),
    ] = None
    path_routing: Annotated[
        bool,
        Parameter(help="Also accept /PROJECT/... on the base domain.", negative=""),
    ] = False
    data_dir: Annotated[
        Path | None, Parameter(help="Where the server keeps its data. Default: the user's data directory.")
    ] = None
    deadline: Annotated[float, Parameter(help="Time a webhook may take until its answer begins.")] = 30.0
    max_head: Annotated[int, Parameter(help="Largest head of a request, in bytes (431).")] = 65_536
    max_body: Annotated[int, Parameter(help="Largest body of a request, in bytes (413).")] = 104_857_600
    header_timeout: Annotated[float, Parameter(help="Time a sender may take for the head (408).")] = 10.0
    idle_timeout: Annotated[float, Parameter(help="Time a sender's connection may stay idle.")] = 75.0
    connections_per_address: Annotated[
        int, Parameter(help="Connections from one address; 0 for any number, as behind a proxy.")
    ] = 256
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Parameter(help="Least important thing that is logged. Default: info; for dev, warning."),
    ] = None
    log_format: Annotated[
        Literal["auto", "json", "console"], Parameter(help="auto is console on a terminal, else json.")
    ] = "auto"


_GROUPS = (ForwardOptions, OutputOptions, TunnelOptions, ServerOptions)
KEYS = frozenset(f.name.replace("_", "-") for group in _GROUPS for f in fields(group)) | {
    "project",
    "drain-timeout",
}
"""Every key that a configuration file may hold, whichever command reads it."""
