"""The live task tree of this process: which tasks there are, in which nurseries, and where each waits.

Asked for by `admin`, for /debug/tasks. It only looks: nothing is cancelled, kept or changed. The walk is done
in slices, so that a process with 20,000 tasks goes on serving; what changes meanwhile is shown as it was met.
Tasks that are alike (the same function, waiting at the same place, with the same tasks below) are shown a few
times and counted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Any, Final

import trio

MAX_SHOWN: Final = 1_000
"""Tasks that can be asked for at most: about 110 KB of text or 220 KB of JSON, made in 30 ms."""
SHOWN: Final = 500
"""Tasks that are shown unless asked otherwise."""
ALIKE: Final = 3
"""Tasks of a kind that are shown in one nursery unless asked otherwise."""
MAX_WALKED: Final = 200_000
"""Tasks that are looked at. The others are only counted."""
SLICE: Final = 0.005
"""Seconds for which the walk keeps the loop before it lets others run."""
_DEEPEST: Final = 64

_walking = trio.CapacityLimiter(1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task waits."""

    file: str
    """As it is imported: ``whook/link/core.py``."""
    line: int
    function: str
    waits_in: str
    """What of Trio it has called, such as ``Event.wait``; empty if it waits in something else."""

    def __str__(self) -> str:
        called = f", {self.waits_in}" if self.waits_in else ""
        return f"{self.file}:{self.line} {self.function}{called}"


@dataclass(slots=True)
class Node:
    """A task."""

    name: str
    kind: str
    """Its function."""
    place: Place | None
    """None while it runs, and for one that has just ended."""
    nurseries: list[list[Node]] = field(default_factory=list)
    likeness: int = 0
    """The same for tasks that are alike."""
    size: int = 1
    """Tasks in it, itself included."""


@dataclass(slots=True)
class Shown:
    """What is shown of a nursery's tasks that are alike."""

    tasks: list[Branch]
    left_out: int
    kind: str


@dataclass(slots=True)
class Branch:
    """A task with what is shown of its nurseries."""

    node: Node
    nurseries: list[list[Shown]]


@dataclass(slots=True)
class TaskTree:
    """What was found."""

    root: Branch
    living: int
    """Tasks of the process, as Trio counts them."""
    walked: int
    shown: int

    def text(self) -> str:
        """Return it for people."""
        lines = [f"{self.living} tasks, {self.shown} shown", ""]
        lines += _lines(self.root, "", "")
        return "\n".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "living": self.living,
            "walked": self.walked,
            "shown": self.shown,
            "root": _as_dict(self.root),
        }


class _Pace:
    """Lets others run when a slice is over."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self._until

    async def rest(self) -> None:
        await trio.lowlevel.checkpoint()
        self._until = time.perf_counter() + SLICE


async def task_tree(*, limit: int = SHOWN, alike: int = ALIKE) -> TaskTree:
    """Walk the tree of the running Trio; show at most ``limit`` tasks. One walk is done at a time."""
    root = trio.lowlevel.current_root_task()
    if root is None:
        raise RuntimeError("Trio has no root task while it runs")
    async with _walking:
        pace = _Pace()
        with _without_collection():
            return await _look(root, limit, alike, pace)


async def _look(root: trio.lowlevel.Task, limit: int, alike: int, pace: _Pace) -> TaskTree:
    nodes = await _walk(root, pace)
    for node in reversed(nodes):  # those below come first
        _liken(node)
        if pace.over:
            await pace.rest()
    top, shown = await _choose(nodes[0], limit, alike, pace)
    return TaskTree(top, trio.lowlevel.current_statistics().tasks_living, len(nodes), shown)


@contextmanager
def _without_collection() -> Generator[None]:
    """Keep the garbage collector away for the second that a large walk takes.

    The walk makes ten thousands of objects, none of them in cycles. That they are new would have it look
    through all that the process holds: with 20,000 tasks that holds up the loop for 300 ms.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


async def _walk(root: trio.lowlevel.Task, pace: _Pace) -> list[Node]:
    """Return a node for each task, parents first."""
    top = _node(root)
    nodes, waiting = [top], [(root, top, 0)]
    while waiting:
        task, node, depth = waiting.pop()
        for nursery in list(task.child_nurseries) if depth < _DEEPEST else ():
            below: list[Node] = []
            node.nurseries.append(below)
            for child in list(nursery.child_tasks):
                if len(nodes) >= MAX_WALKED:
                    return nodes
                if pace.over:
                    await pace.rest()
                made = _node(child)
                below.append(made)
                nodes.append(made)
                waiting.append((child, made, depth + 1))
    return nodes


def _node(task: trio.lowlevel.Task) -> Node:
    kind = getattr(task.coro, "__qualname__", "")
    return Node(printable(task.name), printable(kind), _place(task))


def _place(task: trio.lowlevel.Task) -> Place | None:
    """Return the innermost place of ours at which a task waits, and what of Trio is called there."""
    outer: tuple[FrameType, int] | None = None
    inner: FrameType | None = None
    for frame, line in task.iter_await_frames():
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "trio":
            inner = frame if inner is None else inner
        else:
            outer, inner = (frame, line), None
    if outer is None:
        if inner is None:
            return None
        outer = inner, inner.f_lineno or 0
        inner = None
    frame, line = outer
    return Place(_file(frame), line, _function(frame), "" if inner is None else _function(inner))


def _file(frame: FrameType) -> str:
    """Return a file by its place in its package."""
    depth = str(frame.f_globals.get("__name__", "")).count(".") + 1
    path = PurePath(frame.f_code.co_filename)
    if path.name == "__init__.py":
        depth += 1
    return "/".join(path.parts[-depth:])


def _function(frame: FrameType) -> str:
    return getattr(frame.f_code, "co_qualname", frame.f_code.co_name)  # of 3.11 and later


def printable(text: str) -> str:
    """Return a name without what could fool a terminal: a task may be named after what somebody sent."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def _liken(node: Node) -> None:
    below = []
    for nursery in node.nurseries:
        counts: dict[int, int] = {}
        for child in nursery:
            node.size += child.size
            counts[child.likeness] = counts.get(child.likeness, 0) + 1
        below.append(frozenset(counts.items()))
    node.likeness = hash((node.kind, node.place, tuple(below)))


async def _choose(root: Node, limit: int, alike: int, pace: _Pace) -> tuple[Branch, int]:
    """Return what is shown: breadth first, so that what is deep inside one task does not crowd out others."""
    top = Branch(root, [])
    shown, queue = 1, [top]
    for branch in queue:  # grows while it is worked off
        for nursery in branch.node.nurseries:
            groups: dict[int, list[Node]] = {}
            for node in nursery:
                groups.setdefault(node.likeness, []).append(node)
                if pace.over:
                    await pace.rest()
            found = []
            for nodes in sorted(groups.values(), key=lambda nodes: (nodes[0].kind, nodes[0].name)):
                chosen = [Branch(node, []) for node in nodes[: min(alike, limit - shown)]]
                shown += len(chosen)
                queue += chosen
                found.append(Shown(chosen, sum(node.size for node in nodes[len(chosen) :]), nodes[0].kind))
                if pace.over:
                    await pace.rest()
            branch.nurseries.append(found)
    return top, shown


def _lines(branch: Branch, first: str, rest: str) -> Iterator[str]:
    node = branch.node
    where = "running" if node.place is None else str(node.place)
    yield f"{first}{node.name}  {where}"
    for number, groups in enumerate(branch.nurseries):
        last = number == len(branch.nurseries) - 1
        yield f"{rest}{'└─' if last else '├─'} nursery"
        yield from _nursery_lines(groups, rest + ("   " if last else "│  "))


def _nursery_lines(groups: list[Shown], rest: str) -> Iterator[str]:
    entries: list[Branch | Shown] = []
    for group in groups:
        entries += group.tasks
        if group.left_out:
            entries.append(group)
    for number, entry in enumerate(entries):
        last = number == len(entries) - 1
        mark, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if isinstance(entry, Branch):
            yield from _lines(entry, rest + mark, rest + below)
        else:
            yield f"{rest}{mark}… and {entry.left_out} more in {entry.kind}"


def _as_dict(branch: Branch) -> dict[str, Any]:
    node, place = branch.node, branch.node.place
    found: dict[str, Any] = {"name": node.name, "function": node.kind, "tasks": node.size}
    if place is not None:
        found["waits"] = {
            "file": place.file,
            "line": place.line,
            "function": place.function,
            "in": place.waits_in,
        }
    if branch.nurseries:
        found["nurseries"] = [
            {"tasks": [_as_dict(one) for one in _tasks(groups)], "left_out": _left_out(groups)}
            for groups in branch.nurseries
        ]
    return found


def _tasks(groups: Iterable[Shown]) -> Iterator[Branch]:
    for group in groups:
        yield from group.tasks


def _left_out(groups: Iterable[Shown]) -> list[dict[str, Any]]:
    return [{"function": group.kind, "tasks": group.left_out} for group in groups if group.left_out]
