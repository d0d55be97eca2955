"""The store of projects, which is the conductor's.

The conductor reads and writes it through this port. Who may do so is auth's business, not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


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

    async def list(self) -> list[Project]:
        """Return all projects by name."""
        ...
