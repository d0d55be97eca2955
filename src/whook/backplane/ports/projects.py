"""The store of projects, which is the conductor's.

The conductor reads and writes it through this port. Who may do so is auth's business, not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPolicy:
    """What is done with webhooks that cannot be delivered at once, and how a backlog is worked off.

    Each field's default is the service's. Durations are in seconds, sizes in bytes.
    """

    buffer: bool = True
    """Store what cannot be delivered and acknowledge it; else refuse it with 503."""
    buffer_methods: tuple[str, ...] = ("POST",)
    """The methods that `buffer` is for; others are refused with 503."""
    buffered_status: int = 202
    """What the sender of a stored webhook is answered: some demand 200."""
    buffered_body: str | None = None
    """The body of that answer; by default a JSON object with the event's id."""
    buffered_content_type: str = "application/json"
    order: Literal["strict", "live-first"] = "strict"
    """strict: while something waits, new webhooks queue behind it. live-first: they are tried at once."""
    head_of_line: Literal["skip", "block"] = "skip"
    """What a failed delivery does to those behind it while it waits for its retry."""
    window: int = 1
    """Deliveries out of the backlog under way at once. 1: each begins when the one before was answered."""
    max_attempts: int = 12
    """Failed deliveries after which an event is dead."""
    retry_base: float = 5.0
    """The pause after the first failure; it doubles with each, with jitter."""
    retry_cap: float = 3600.0
    max_count: int = 100_000
    max_bytes: int = 1_073_741_824
    max_age: float = 604_800.0
    """While the oldest event waits for longer, no new one is taken."""
    dedup_window: float = 0.0
    """How long a provider's delivery id is remembered; 0: no deduplication."""
    dedup_header: str = ""
    """Where the id is; by default the header or field of the known providers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project: a name under which webhooks arrive."""

    id: str
    """``prj_…``, given by auth when the name is claimed; never changes and is never used again. A later
    claim's is greater."""
    name: str
    """A DNS label, see whook.chassis.names."""
    created_at: datetime
    """In UTC."""
    policy: ProjectPolicy = field(default_factory=ProjectPolicy)


class Projects(Protocol):
    """Every project by its name. Publishes ProjectSet on the bus that it was built with."""

    async def get(self, name: str) -> Project | None:
        """Return the project of that name."""
        ...

    async def create(self, name: str, project_id: str) -> Project:
        """Return the project of that name; make it if there is none. Raises ValueError for a bad name.

        A project of the name with an earlier id belonged to an earlier owner, and is replaced. One with a
        later id stays and is returned: whoever asked has been overtaken. Of several callers at once, in
        whatever processes, all get the same project.
        """
        ...

    async def delete(self, name: str, made_before: datetime) -> bool:
        """Delete the project of that name if it was made before that time; return whether it was.

        Its id is never used again: who claims the name next gets another project.
        """
        ...

    async def set_policy(self, project_id: str, policy: ProjectPolicy) -> Project | None:
        """Give a project another policy, publish it, and return the project; None if it is gone."""
        ...

    async def with_policies(self) -> list[Project]:
        """Return the projects whose policy is not the default one."""
        ...

    async def list(self) -> list[Project]:
        """Return all projects by name."""
        ...
