"""Many changes in one transaction, hence one fsync: what is asked for while one commits is in the next one.

Owned by a store whose callers wait for the disk. A change is a function that first checks and then changes:
what it raises is for its caller alone, and must be raised before it has changed anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import trio

from whook.backplane.ports import Unavailable
from whook.backplane.sql.database import Database

GROUP: Final = 256
"""Changes in one transaction."""
WAITING: Final = 1024
"""Changes that wait for their turn; whoever wants one more waits to ask."""

_CLOSED: Final = "the database is being closed"

S = TypeVar("S")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Change(Generic[S]):
    """One change, and where its outcome comes to lie."""

    work: Callable[[S], Any]
    done: trio.Event = field(default_factory=trio.Event)
    given_up: bool = False
    value: Any = None
    error: Exception | None = None


class GroupCommit(Generic[S]):
    """The only writer of a database."""

    def __init__(
        self,
        database: Database,
        begin: Callable[[Any], S],
        committed: Callable[[S], None],
        refusals: tuple[type[Exception], ...],
    ) -> None:
        """Make it for changes that get what ``begin`` makes of the connection, in the writer's thread.

        ``committed`` is called with it when the transaction is durable. ``refusals`` are the errors by which
        one change is refused and the others are not touched.
        """
        self._database = database
        self._begin = begin
        self._committed = committed
        self._refusals = refusals
        self._asked, self._turns = trio.open_memory_channel[_Change[S]](WAITING)

    async def run(self) -> None:
        """Commit what is asked for, for ever. Whoever still waits when it is cancelled gets Unavailable."""
        group: list[_Change[S]] = []
        try:
            while True:
                group = [await self._turns.receive()]
                while len(group) < GROUP and self._turns.statistics().current_buffer_used:
                    group.append(self._turns.receive_nowait())
                await self._commit([change for change in group if not change.given_up])
        finally:
            while self._turns.statistics().current_buffer_used:
                group.append(self._turns.receive_nowait())
            self._turns.close()
            for change in group:
                if not change.done.is_set():
                    _finish(change, Unavailable(_CLOSED))

    async def change(self, work: Callable[[S], T]) -> T:
        """Return what ``work`` returned, once it is durable.

        Raises what ``work`` raised, and Unavailable if the database does not answer. After Unavailable, or
        a cancellation, the change may have been made or not.
        """
        change = _Change[S](work)
        try:
            await self._asked.send(change)
        except trio.BrokenResourceError:
            raise Unavailable(_CLOSED) from None
        try:
            await change.done.wait()
        finally:
            change.given_up = True
        if change.error is not None:
            raise change.error
        return cast("T", change.value)

    async def _commit(self, group: list[_Change[S]]) -> None:
        if not group:
            return
        try:
            state = await self._database.write(lambda connection: self._make(connection, group))
        except Unavailable as error:
            for change in group:
                _finish(change, Unavailable(str(error)))
        except Exception as error:  # noqa: BLE001 - goes to the caller whose change it is, and to no other
            if len(group) == 1:
                _finish(group[0], error)
                return
            for change in group:
                await self._commit([change])
        else:
            self._committed(state)
            for change in group:
                change.done.set()

    def _make(self, connection: Any, group: list[_Change[S]]) -> S:
        state = self._begin(connection)
        for change in group:
            try:
                change.value, change.error = change.work(state), None
            except self._refusals as error:
                change.error = error
        return state


def _finish(change: _Change[Any], error: Exception) -> None:
    change.error = error
    change.done.set()
