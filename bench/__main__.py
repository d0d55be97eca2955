"""`python -m bench`: all scenarios; `python -m bench SCENARIO [options]`: one of them (bench/README.md)."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import suite
from bench.process import BenchError


def main(arguments: list[str]) -> int:
    """Run what the arguments say."""
    if not Path("/proc/self/stat").exists():
        sys.stderr.write("bench: needs Linux, because CPU time and memory are read from /proc\n")
        return 2
    if not arguments:
        return suite.run()
    scenario, args = suite.parse(arguments)
    try:
        sys.stdout.write(scenario.module().main(args) + "\n")
    except BenchError as error:
        sys.stderr.write("\n".join([f"bench: {error}", *getattr(error, "__notes__", ())]) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
