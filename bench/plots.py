"""Plots of a result file, as PNG beside it: `python -m bench plots A.json`, and whenever a result is saved.

Draws from the stored figures and series alone, so that it serves every scenario, and old results as well:

- series of one name share a picture, a curve for each; latency distributions get an axis for their tail;
- figures over something countable (connections, tunnels) are curves over it, one picture for each body size;
- other figures are bars. Rounds show as a band or a whisker from the lowest to the highest.

matplotlib is optional (`whook[bench]`): without it nothing is drawn, and `say` says so.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, Series, Where
from bench.report import Stored

MISSING: Final = "no plots: matplotlib is not installed (it comes with whook[bench])"
SHARE: Final = "share answered"
"""The first coordinate of a latency distribution."""
_AXES: Final = ("tunnels", "connections", "onlookers", "events")
"""Keys of `where` over which figures are drawn, the first that varies."""
_PANELS: Final = "bytes"
"""The key of `where` that gets a panel for each value."""
_TICKS: Final = (0.5, 0.9, 0.99, 0.999, 0.9999)
_COLOURS: Final = ("#1b6ca8", "#d1495b", "#2e933c", "#b07d2b", "#6a4c93", "#3c3c3c", "#00798c", "#edae49")
_WIDE: Final = 8.0
_HIGH: Final = 4.2


def draw(path: Path) -> list[Path] | None:
    """Draw what a result file holds; give the files written, None without matplotlib.

    Raises ValueError for a file that is no result.
    """
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    stored = Stored.read(path)
    written: list[Path] = []
    for name, members in _grouped((s.name, s) for s in stored.series if s.points).items():
        figure, axes = pyplot.subplots(figsize=(_WIDE, _HIGH))
        _curves(axes, members)
        _finish(figure, stored, name)
        written.append(_save(figure, path, name))
    for name, found in _grouped((f.name, f) for f in (*stored.figures, *stored.references)).items():
        axis = _axis(found)
        panels = _grouped((int(f.where.get(_PANELS, 0)), f) for f in found) if axis else {0: found}
        size = (_WIDE if len(panels) < 2 else 4.6 * len(panels), _HIGH if axis else 1.6 + 0.42 * len(found))
        figure, grid = pyplot.subplots(1, len(panels), figsize=size, squeeze=False)
        for axes, (bytes_, members) in zip(grid[0], sorted(panels.items()), strict=True):
            if axis:
                _lines(axes, members, axis)
                if bytes_:
                    axes.set_title(f"{_size(bytes_)} bodies", fontsize=10)
            else:
                _bars(axes, members)
        _finish(figure, stored, name)
        written.append(_save(figure, path, name))
    return written


def say(written: Sequence[Path] | None) -> None:
    """Tell on standard error what was drawn, or why nothing was."""
    if written is None:
        sys.stderr.write(MISSING + "\n")
    for path in written or ():
        sys.stderr.write(f"{path}\n")


# -- what is drawn ----------------------------------------------------------------------------------------


def _curves(axes: Any, members: list[Series]) -> None:
    shares = members[0].x == SHARE
    common = _common([s.where for s in members])
    for number, series in enumerate(members):
        xs = [x for x, _ in series.points]
        ys = [y for _, y in series.points]
        if shares:
            most = max(x for x in xs if x < 1)
            xs = [1 / (1 - min(x, most)) for x in xs]
        label = _label(series.where, common)
        axes.plot(xs, ys, color=_COLOURS[number % len(_COLOURS)], label=label, linewidth=1.6)
    axes.set_ylabel(members[0].unit)
    if shares:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1 / (1 - t) for t in _TICKS], [f"{100 * t:g} %" for t in _TICKS])
        axes.minorticks_off()
        axes.set_xlabel("of the requests were answered within")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_xlabel(members[0].x)
        axes.set_ylim(0, 1.08 * max(y for series in members for _, y in series.points) or 1)
    _legend(axes, len(members))


def _lines(axes: Any, members: list[Figure], axis: str) -> None:
    others = _grouped((_label(f.where, {axis, _PANELS}), f) for f in members)
    for number, (label, found) in enumerate(others.items()):
        found.sort(key=lambda f: float(f.where[axis]))
        xs = [float(f.where[axis]) for f in found]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(xs, [f.median for f in found], "o-", color=colour, label=label, linewidth=1.6, markersize=4)
        low, high = [min(f.rounds) for f in found], [max(f.rounds) for f in found]
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    ticks = sorted({float(f.where[axis]) for f in members})
    if len(ticks) > 1 and ticks[-1] / max(ticks[0], 1) >= 8:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{t:,.0f}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(members[0].unit)
    axes.set_ylim(0, 1.08 * max(max(f.rounds) for f in members) or 1)
    _legend(axes, len(others))


def _bars(axes: Any, members: list[Figure]) -> None:
    common = _common([f.where for f in members])
    labels = [_label(f.where, common) for f in members]
    middles = [f.median for f in members]
    spread = [
        [m - min(f.rounds) for m, f in zip(middles, members, strict=True)],
        [max(f.rounds) - m for m, f in zip(middles, members, strict=True)],
    ]
    rows = list(range(len(members)))
    axes.barh(rows, middles, xerr=spread, color=_COLOURS[0], alpha=0.85, height=0.6, capsize=3)
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.set_xlabel(members[0].unit)
    axes.margins(x=0.15)
    for row, middle, member in zip(rows, middles, members, strict=True):
        text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.2f}"
        axes.annotate(text, (max(member.rounds), row), (6, 0), textcoords="offset points", va="center")


# -- how it is labelled -----------------------------------------------------------------------------------


def _finish(figure: Any, stored: Stored, name: str) -> None:
    about = stored.machine
    figure.suptitle(f"{stored.scenario}: {name}", fontsize=12)
    where = f"{str(about.get('commit', ''))[:10]} · {about.get('cores')} cores · {about.get('date')}"
    figure.text(0.995, 0.005, where, ha="right", va="bottom", fontsize=7, color="#777777")
    for axes in figure.axes:
        axes.grid(visible=True, alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.tight_layout(rect=(0, 0.02, 1, 1))


def _legend(axes: Any, count: int) -> None:
    labels = axes.get_legend_handles_labels()[1]
    if count > 3:  # beside the curves, which would else run through it
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    elif count > 1 or any(labels):
        axes.legend(fontsize=8, frameon=False)


def _axis(figures: list[Figure]) -> str:
    """Return the countable thing over which the figures vary, "" when there is none."""
    for key in _AXES:
        if all(key in f.where for f in figures) and len({f.where[key] for f in figures}) > 1:
            return key
    return ""


def _common(wheres: list[Where]) -> set[str]:
    """Return the keys that say the same of all, so that no label need repeat them."""
    if len(wheres) < 2:
        return set()
    return {key for key in wheres[0] if len({str(w.get(key)) for w in wheres}) == 1}


def _label(where: Where, without: set[str]) -> str:
    parts: list[str] = []
    for key, value in where.items():
        if key not in without:
            if key == _PANELS:
                parts.append(_size(int(value)))
            else:
                parts.append(value if isinstance(value, str) else f"{value:,} {key}")
    return ", ".join(parts)


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count} B"


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, member in pairs:
        groups.setdefault(key, []).append(member)
    return groups


def _save(figure: Any, path: Path, name: str) -> Path:
    from matplotlib import pyplot

    short = "".join(c if c.isalnum() else "-" for c in name.lower())
    target = path.with_name(f"{path.stem}-{short}.png")
    figure.savefig(target, dpi=130)
    pyplot.close(figure)
    return target


# -- from the command line --------------------------------------------------------------------------------


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("results", type=Path, nargs="+", help="JSON files; the plots go beside them")


def main(args: Namespace) -> str:
    """Draw what the command line names."""
    lines: list[str] = []
    for path in args.results:
        written = draw(path)
        if written is None:
            return MISSING
        lines += map(str, written)
    return "\n".join(lines)
