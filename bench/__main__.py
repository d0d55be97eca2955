"""`python -m bench throughput|idle|history|storm`: run a scenario and print its table (bench/README.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import history, idle, storm, throughput


def numbers(text: str) -> list[int]:
    """Read "1,16,64" or "1k,64k,1m"."""
    units = {"k": 1024, "m": 1024 * 1024}
    return [int(n.rstrip("km")) * units.get(n[-1:], 1) for n in text.lower().split(",")]


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    load = scenarios.add_parser("throughput", help="CPU per request beside references")
    load.add_argument("--connections", type=numbers, default=[1, 16, 64])
    load.add_argument("--sizes", type=numbers, default=numbers("1k,64k,1m"))
    load.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    load.add_argument("--systems", default=",".join(throughput.SYSTEMS), help="which of %(default)s")
    still = scenarios.add_parser("idle", help="memory for each idle tunnel")
    still.add_argument("--tunnels", type=int, default=1000)
    drop = scenarios.add_parser("storm", help="every tunnel drops at once")
    drop.add_argument("--tunnels", type=int, default=10_000)
    drop.add_argument("--bystanders", type=int, default=100)
    drop.add_argument("--how", choices=("kill", "term"), default="kill", help="how the relays end")
    drop.add_argument("--webhooks", type=float, default=40.0, help="a second")
    drop.add_argument("--opening", type=float, default=250.0, help="tunnels opened a second, at first")
    drop.add_argument("--deadline", type=float, default=240.0, help="seconds for all to come back")
    drop.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    drop.add_argument("--set", action="append", default=[], metavar="WHOOK_…=VALUE", help="a setting")
    recording = scenarios.add_parser("history", help="what recording costs a request")
    recording.add_argument("--shape", choices=tuple(history.SHAPES), default="embedded")
    recording.add_argument("--connections", type=int, default=64)
    recording.add_argument("--size", type=int, default=1024)
    recording.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    recording.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        sys.stderr.write("bench: needs Linux, because CPU time and memory are read from /proc\n")
        return 2
    if args.scenario == "idle":
        sys.stdout.write(idle.run(args.tunnels) + "\n")
        return 0
    if args.scenario == "storm":
        plan = storm.Plan(
            tunnels=args.tunnels,
            bystanders=args.bystanders,
            how=args.how,
            webhooks=args.webhooks,
            opening=args.opening,
            resume=args.resume,
            deadline=args.deadline,
            settings=dict(item.split("=", 1) for item in args.set),
        )
        sys.stdout.write(storm.run(plan) + "\n")
        return 0
    if args.scenario == "history":
        table = history.run(args.shape, args.connections, args.size, args.seconds, args.rounds)
        sys.stdout.write(table + "\n")
        return 0
    names = args.systems.split(",")
    cells = throughput.run(names, args.connections, args.sizes, args.seconds)
    sys.stdout.write(throughput.report(cells) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
