"""What to do for a request whose project has no route here, or whose route turned out wrong.

Called by the ingress beside the fast path, never on it. Asks the store which projects exist and the
directory, once, who holds one; what it learns goes into the route table. Raises `Refusal`, the answer to
the sender.
"""

from __future__ import annotations

import structlog
import trio

from whook.backplane.ports import Directory, Route, Unavailable
from whook_conductor.answers import NO_TUNNEL, OVERLOADED, UNAVAILABLE, UNKNOWN_PROJECT, Answer
from whook_conductor.projects import LookupsBusyError, ProjectCache
from whook_conductor.routes import RouteTable

_log = structlog.get_logger("whook.conductor.resolver")


class Refusal(Exception):
    """The request ends here with `answer`. `project_id` is known where only the way to it is not."""

    def __init__(self, answer: Answer, *, project_id: str = "") -> None:
        super().__init__(answer.slug)
        self.answer = answer
        self.project_id = project_id


class Resolver:
    """The way from a project's name to its route when the table alone does not know."""

    def __init__(self, table: RouteTable, projects: ProjectCache, directory: Directory) -> None:
        self._table = table
        self._projects = projects
        self._directory = directory
        self._asking: dict[str, trio.Event] = {}
        """Projects that the directory is asked for now."""

    async def find(self, name: str) -> Route:
        """Return the route of a project that the table does not have.

        As long as the table follows the directory its silence is the answer; the directory is asked only when
        the table is behind, or may be a moment behind for a project that was lost just now. Raises `Refusal`.
        """
        try:
            project = await self._projects.find(name)
        except LookupsBusyError:
            raise Refusal(OVERLOADED) from None
        except Unavailable as error:
            _log.warning("cannot look up a project", error=str(error))
            raise Refusal(UNAVAILABLE) from None
        if project is None:
            raise Refusal(UNKNOWN_PROJECT)
        # The look-up took time: the tunnel may have come meanwhile.
        route = self._table.lookup(name)
        if route is None and (not self._table.ready or self._table.worth_asking(name)):
            route = await self._ask_together(project.id, name)
        if route is None:
            raise Refusal(NO_TUNNEL, project_id=project.id)
        return route

    async def again(self, route: Route) -> Route | None:
        """Ask the directory once who holds the project now, `route` having led nowhere.

        Returns None when nobody does, or when the directory still says the same. Raises `Refusal`.
        """
        found = await self._ask(route.project_id)
        if found is None:
            self._table.forget(route.project_id, route.generation)
            return None
        return found if found.generation != route.generation else None

    async def _ask_together(self, project_id: str, name: str) -> Route | None:
        """Ask who holds a project. Requests for one project at a time share the question."""
        table = self._table
        while (other := self._asking.get(name)) is not None:
            await other.wait()
            if (route := table.lookup(name)) is not None:
                return route
            if table.ready and not table.worth_asking(name):
                return None
        answered = self._asking[name] = trio.Event()
        try:
            route = await self._ask(project_id)
            if route is None:
                table.not_back(name)
            return route
        finally:
            del self._asking[name]
            answered.set()

    async def _ask(self, project_id: str) -> Route | None:
        try:
            route = await self._directory.route(project_id)
        except Unavailable as error:
            _log.warning("cannot ask the directory", error=str(error))
            raise Refusal(UNAVAILABLE, project_id=project_id) from None
        if route is not None:
            self._table.learn(route)
        return route
