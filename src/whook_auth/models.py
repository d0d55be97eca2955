"""The bodies of the auth API: what is asked and what is answered, as types from which its document is made.

Used by the API's modules only. Holds no logic beyond bounds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from whook.backplane.ports import Role

_NO_NUL = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, Field(max_length=100, pattern=_NO_NUL)]
ProjectName = Annotated[str, Field(min_length=1, max_length=63, pattern=_NO_NUL)]
Scope = Literal["connect", "events:read", "events:replay", "projects:write", "admin"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WhoAmI(BaseModel):
    """Whose token this is, and what it may do."""

    user: str
    user_id: str
    token_id: str
    scopes: list[str]
    projects: list[str] = Field(description="The only projects it is good for; empty means all of its user.")
    expires_at: datetime | None


class TokenWanted(_Asked):
    """A personal access token, please."""

    name: Text = Field(min_length=1, description="What you call it.")
    scopes: list[Scope] = Field(min_length=1, max_length=8)
    projects: list[ProjectName] = Field(
        default_factory=list, max_length=32, description="The only projects it is good for; empty means all."
    )
    expires_in: int | None = Field(
        None, ge=1, le=315_360_000, description="Seconds until it expires; null means when it is revoked."
    )


class TokenAnswer(BaseModel):
    """A token's record."""

    id: str
    name: str
    scopes: list[str]
    projects: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    current: bool = Field(description="Whether this request was made with it.")


class TokenMade(TokenAnswer):
    """A new token: the only time that it is shown."""

    token: str


class TokenList(BaseModel):
    """Tokens, the oldest first."""

    tokens: list[TokenAnswer]


class UserWanted(_Asked):
    """An account, please."""

    name: Annotated[str, Field(max_length=64)] = Field(examples=["ann"])
    password: Annotated[str, Field(max_length=1_024)] = Field(
        description="At least 12 characters; its user changes it."
    )
    admin: bool = False


class UserAnswer(BaseModel):
    """An account."""

    id: str
    name: str
    admin: bool
    created_at: datetime
    disabled_at: datetime | None


class UserList(BaseModel):
    """Accounts by name."""

    users: list[UserAnswer]


class PasswordChange(_Asked):
    """A new password, please."""

    current: Annotated[str, Field(max_length=1_024)]
    new: Annotated[str, Field(max_length=1_024)]


class ProjectWanted(_Asked):
    """A project name, please."""

    name: ProjectName


class OwnProject(BaseModel):
    """A project and what you are in it."""

    name: str
    role: Role


class OwnProjects(BaseModel):
    """Projects by name."""

    projects: list[OwnProject]


class RoleWanted(_Asked):
    """A role for somebody."""

    role: Role


class Member(BaseModel):
    """Somebody's part in a project."""

    user: str
    role: Role


class MemberList(BaseModel):
    """Members by name."""

    members: list[Member]


class AuditRecord(BaseModel):
    """One entry of the audit trail."""

    id: str
    at: datetime
    action: str
    outcome: str
    actor: str
    target: str
    address: str
    detail: str


class AuditPage(BaseModel):
    """Entries, the newest first."""

    entries: list[AuditRecord]
    next: str | None = Field(description="Give it as `before` for the page that follows; null at the end.")


class DeviceCodes(BaseModel):
    """RFC 8628 section 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class Issued(BaseModel):
    """RFC 6749 section 5.1."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - its name is no secret
    scope: str


class OAuthError(BaseModel):
    """RFC 6749 section 5.2."""

    error: str
    error_description: str
