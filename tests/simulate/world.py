"""What all of a history shares: its chance, its loop, what happened so far, and what is to be done at once."""

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random

from tests.simulate.plan import Plan, Rates
from tests.simulate.virtual_loop import Host, VirtualLoop


class World(Host):
    """`seen` counts what happened, for figures. `faults` are violations that were noticed on the way."""

    def __init__(self, plan: Plan) -> None:
        super().__init__("world")
        self.plan = plan
        self.chance = Random(plan.seed)  # noqa: S311 - a history must be the same again
        self.rates: Rates = plan.rates
        self.loop = VirtualLoop(  # type: ignore[abstract]  # what no history needs of a loop is left out
            self.chance, self, scramble=plan.scramble
        )
        self.healed = False
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.story: list[str] = []
        self.hosts: list[Host] = [self]
        self.on_note: Callable[[str, Host], None] | None = None

    def happens(self, rate: float) -> bool:
        """Drawn only where it can happen, so that a kind of fault that is off costs nothing."""
        return rate > 0 and self.chance.random() < rate

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.chance.random()

    def soon(self, most: float) -> float:
        """Mostly a small part of `most` seconds, seldom much of it."""
        return most * self.chance.random() ** 4

    def note(self, what: str, host: Host, about: str = "") -> None:
        """Something happened that can be seen from outside the process."""
        self.seen[what] += 1
        self.story.append(f"{self.loop.time():.6f} {host.name} {what} {about}")
        if self.on_note is not None:
            self.on_note(what, host)

    def wrong(self, fault: str) -> None:
        self.faults.append(f"at {self.loop.time():.3f} s: {fault}")

    def later(self, seconds: float, work: Callable[..., object], *args: object) -> None:
        """In the world's own time, whatever becomes of whoever asked for it."""
        self.loop.run_host(self, self.loop.call_later, seconds, work, *args)

    def digest(self) -> str:
        """The history's hash: the same for the same seed and the same program."""
        return hashlib.sha256("\n".join(self.story).encode()).hexdigest()
