"""What each project wants done with webhooks that cannot be delivered at once, ready for use.

Held by `projects.ProjectCache`, which keeps it true; asked by the ingress for every request and by the
dispatcher, so a look-up is one dict access. Only policies that are not the default one are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from whook.backplane.ports import Project, ProjectPolicy, QueueLimits


class Rules:
    """A policy as the ingress needs it."""

    __slots__ = ("block", "concerned", "dedup", "methods", "policy", "strict")

    def __init__(self, policy: ProjectPolicy) -> None:
        self.policy = policy
        self.methods: frozenset[bytes] = (
            frozenset(method.encode("ascii", "replace") for method in policy.buffer_methods)
            if policy.buffer
            else frozenset()
        )
        """The methods whose requests are stored when they cannot be delivered."""
        self.strict = policy.order == "strict"
        self.block = policy.head_of_line == "block"
        self.dedup = policy.dedup_window > 0
        self.concerned = self.methods
        """The methods for which any of this matters before a request is tried."""
        if self.dedup:
            self.concerned |= {method.encode("ascii", "replace") for method in policy.buffer_methods}

    def limits(self, *, total_count: int, total_bytes: int) -> QueueLimits:
        """Return how much may wait: of the project by its policy, in all as given."""
        policy = self.policy
        return QueueLimits(
            project_count=policy.max_count,
            project_bytes=policy.max_bytes,
            project_age=policy.max_age,
            total_count=total_count,
            total_bytes=total_bytes,
        )


DEFAULT: Final = Rules(ProjectPolicy())


class Policies:
    """The rules of every project, by its id."""

    def __init__(self) -> None:
        self._special: dict[str, Rules] = {}

    def of(self, project_id: str) -> Rules:
        """Return the rules of a project: the default ones for all that are not known to have others."""
        return self._special.get(project_id, DEFAULT)

    def learn(self, project: Project) -> None:
        """Take the policy of `project` for its present one."""
        if project.policy == DEFAULT.policy:
            self._special.pop(project.id, None)
        else:
            self._special[project.id] = Rules(project.policy)

    def replace(self, projects: Iterable[Project]) -> None:
        """Take `projects` for all that have a policy of their own."""
        self._special = {project.id: Rules(project.policy) for project in projects}

    def forget(self, project_id: str) -> None:
        """Drop what is known of a project that is no more."""
        self._special.pop(project_id, None)
