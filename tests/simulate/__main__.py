"""Simulated histories from the command line.

python -m tests.simulate SEED [--large] [--story]     one history again; its story is all that happened, in order

Long runs: `python -m tests.soak simulated`.
"""

import argparse
import sys
import time

from tests.simulate.history import play_one


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("seed", type=int, metavar="SEED")
    parser.add_argument("--large", action="store_true", help="the seed's history in its size for long runs")
    parser.add_argument("--story", action="store_true")
    asked = parser.parse_args(arguments)
    return _replay(asked.seed, large=asked.large, story=asked.story)


def _replay(seed: int, *, large: bool, story: bool) -> int:
    began = time.monotonic()
    verdict = play_one(seed, large=large)
    for line in verdict.story if story else ():
        _say(line)
    for what, count in sorted(verdict.seen.items()):
        _say(f"{count:6} {what}")
    took = time.monotonic() - began
    _say(
        f"seed {seed}: {verdict.orders} orders, {verdict.virtual_s:.0f} virtual s, {verdict.steps} steps, {took:.3f} s"
    )
    _say(f"history {verdict.digest}")
    for fault in verdict.faults:
        _say(f"VIOLATION {fault}")
    return 1 if verdict.faults else 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
