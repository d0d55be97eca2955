"""A project's policy in the API: what it looks like, and what a change may say.

Used by `api` for its shapes and by `control` for the change. Every refusal names the field and what it must
be.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from whook.backplane.ports import ProjectPolicy
from whook.chassis.problem import ProblemError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
_PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?\Z")
_DAY = 86_400.0


def _method(value: str) -> str:
    if not _TOKEN.match(value) or value in ("CONNECT", "TRACE"):
        raise ValueError("give methods such as POST or PUT; CONNECT and TRACE cannot be stored")
    return value


def _content_type(value: str) -> str:
    if not _PRINTABLE.match(value):
        raise ValueError("give a media type such as application/json")
    return value


def _header(value: str) -> str:
    if value and not _TOKEN.match(value):
        raise ValueError("give the name of a header field, or nothing for those of the known providers")
    return value


class PolicyAnswer(BaseModel):
    """What is done with webhooks that cannot be delivered at once. Durations in seconds, sizes in bytes."""

    buffer: bool = Field(description="Store what cannot be delivered and acknowledge it; else refuse it.")
    buffer_methods: list[str] = Field(description="The methods that this is for.")
    buffered_status: int = Field(description="What the sender of a stored webhook is answered.")
    buffered_body: str | None = Field(description="The body of that answer; null: a JSON object.")
    buffered_content_type: str
    order: Literal["strict", "live-first"] = Field(
        description="strict: new webhooks queue behind those that wait."
    )
    head_of_line: Literal["skip", "block"] = Field(
        description="Whether those behind a failed delivery wait for its retry."
    )
    window: int = Field(description="Deliveries out of the backlog under way at once.")
    max_attempts: int = Field(description="Failed deliveries after which a webhook is dead.")
    retry_base: float = Field(description="Bound of the pause after the first failure; it doubles.")
    retry_cap: float = Field(description="Longest pause.")
    max_count: int = Field(description="Webhooks that may wait.")
    max_bytes: int = Field(description="Bytes that may wait.")
    max_age: float = Field(description="While the oldest waits for longer, no new one is taken.")
    dedup_window: float = Field(description="How long delivery ids are remembered; 0: no deduplication.")
    dedup_header: str = Field(description="Where the id is; empty: as the known providers do it.")

    @classmethod
    def of(cls, policy: ProjectPolicy) -> Self:
        """Return a policy as the API shows it."""
        return cls.model_validate(dataclasses.asdict(policy) | {"buffer_methods": [*policy.buffer_methods]})


class PolicyChange(BaseModel):
    """Fields of a policy to change; null gives a field its default again, what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    buffer: bool | None = None
    buffer_methods: (
        Annotated[list[Annotated[str, AfterValidator(_method)]], Field(min_length=1, max_length=16)] | None
    ) = None
    buffered_status: Annotated[int, Field(ge=200, le=299)] | None = None
    buffered_body: Annotated[str, Field(max_length=16_384)] | None = None
    buffered_content_type: Annotated[str, AfterValidator(_content_type)] | None = None
    order: Literal["strict", "live-first"] | None = None
    head_of_line: Literal["skip", "block"] | None = None
    window: Annotated[int, Field(ge=1, le=256)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] | None = None
    retry_base: Annotated[float, Field(gt=0, le=_DAY)] | None = None
    retry_cap: Annotated[float, Field(gt=0, le=7 * _DAY)] | None = None
    max_count: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=2**50)] | None = None
    max_age: Annotated[float, Field(ge=1, le=3_650 * _DAY)] | None = None
    dedup_window: Annotated[float, Field(ge=0, le=30 * _DAY)] | None = None
    dedup_header: Annotated[str, AfterValidator(_header)] | None = None

    def apply(self, policy: ProjectPolicy) -> ProjectPolicy:
        """Return the policy after the change. Raises `ProblemError` (422) for one that contradicts itself."""
        default = ProjectPolicy()
        changes: dict[str, Any] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            changes[name] = getattr(default, name) if value is None else value
        if "buffer_methods" in changes:
            changes["buffer_methods"] = tuple(changes["buffer_methods"])
        changed = dataclasses.replace(policy, **changes)
        if changed.retry_cap < changed.retry_base:
            raise _contradiction("retry_cap must not be less than retry_base: raise it, or lower retry_base")
        if changed.buffered_status in (204, 205) and changed.buffered_body:
            raise _contradiction(
                f"an answer with status {changed.buffered_status} has no body: leave buffered_body empty"
            )
        return changed


def _contradiction(detail: str) -> ProblemError:
    return ProblemError(422, "invalid-policy", "Invalid policy", detail[0].upper() + detail[1:] + ".")
