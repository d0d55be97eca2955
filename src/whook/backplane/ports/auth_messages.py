"""What conductors and relays exchange with auth: paths, fields, and the bodies as typed records.

Used by both ends, so that they cannot drift apart: `whook.backplane.auth_http` and `whook_auth.internal_api`.
docs/reference/internal-auth-api.md says what they mean.
"""

from __future__ import annotations

from typing import Final

import msgspec

from whook.backplane.ports.auth import Principal, ProjectScope
from whook.backplane.ports.projects import Project

PREFIX: Final = "/internal/v1"
AUTHENTICATE: Final = f"{PREFIX}/authenticate"
AUTHORIZE_TUNNEL: Final = f"{PREFIX}/authorize-tunnel"
AUTHORIZE_PROJECT: Final = f"{PREFIX}/authorize-project"
AUTHORIZE_ADMIN: Final = f"{PREFIX}/authorize-admin"
PROJECTS: Final = f"{PREFIX}/projects"
TUNNEL_TOKENS: Final = f"{PREFIX}/tunnel-tokens"
BATCH: Final = f"{PREFIX}/batch"
"""Takes many of the above at once and answers each for itself."""
JWKS: Final = "/.well-known/jwks.json"
"""RFC 8414 section 2, "jwks_uri", by convention. Public."""

SERVICE_KEY: Final = "whook-service-key"
"""Field that proves the caller to be a service of this cluster."""
CALLER: Final = "whook-caller"
"""Field with the network address of the person on whose behalf the service asks."""

DENIED: Final = "denied"
"""Problem (403) that carries an AuthDenied: its members ``reason`` and ``detail``."""
BAD_NAME: Final = "invalid-project-name"
"""Problem (422) that carries a ValueError."""
BAD_SERVICE_KEY: Final = "service-key"
"""Problem (401): the caller is no service of this cluster."""
UNAVAILABLE: Final = "unavailable"
"""Problem (503) that carries an Unavailable."""


class AuthenticateRequest(msgspec.Struct, frozen=True):
    """Asks whose access token it is."""

    token: str

    def __repr__(self) -> str:
        return "<AuthenticateRequest>"


class AuthorizeRequest(msgspec.Struct, frozen=True):
    """Asks whether the principal may open a tunnel for the project of that name."""

    principal: Principal
    project: str
    create: bool


class AuthorizeProjectRequest(msgspec.Struct, frozen=True):
    """Asks whether the principal may do in the project what the scope is for; without one, anywhere."""

    principal: Principal
    project: str | None
    scope: ProjectScope


class AuthorizeAdminRequest(msgspec.Struct, frozen=True):
    """Asks whether the principal may operate the service; the rest is for the audit trail."""

    principal: Principal
    action: str
    target: str
    change: bool


class ProjectsRequest(msgspec.Struct, frozen=True):
    """Asks which projects the principal may see."""

    principal: Principal


class AuthorizeAnswer(msgspec.Struct, frozen=True):
    """It may; this is the project's id."""

    project_id: str


class ProjectsAnswer(msgspec.Struct, frozen=True):
    """The ids by name; None means all."""

    projects: dict[str, str] | None


class MintRequest(msgspec.Struct, frozen=True):
    """Asks for a token for one tunnel."""

    principal: Principal
    project: Project
    relay_id: str


class BatchedRequest(msgspec.Struct, frozen=True):
    """One request of a batch: what it would be by itself."""

    path: str
    caller: str
    body: msgspec.Raw

    def __repr__(self) -> str:
        return f"<BatchedRequest {self.path}>"


class BatchedAnswer(msgspec.Struct, frozen=True):
    """The answer to one request of a batch. ``body`` is null where there is none."""

    status: int
    body: msgspec.Raw

    def __repr__(self) -> str:
        return f"<BatchedAnswer {self.status}>"


class Problem(msgspec.Struct, frozen=True):
    """What a client reads of a problem (RFC 9457)."""

    type: str = ""
    detail: str = ""
    reason: str = ""
