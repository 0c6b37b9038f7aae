"""What a history is made of, drawn from its seed: sizes, settings, and which faults come how often.

Not every fault in every history: each has some kinds and not others (so that one does not hide another), and some
histories have none at all.
"""

from random import Random
from typing import Final, Literal

import msgspec

from gateway import settings as real
from gateway.ledger.sqlite import SqliteLedger

Mode = Literal["sound", "late", "short"]
"""`sound`: all that the promise assumes holds. `late`: OfferGrid acts, or shows, later than `settle_after_s`.
`short`: its listings leave orders out in a way that nobody can notice."""

LISTING_PACE_S: Final = 61.0
ABSENCE_IS_PROVEN: Final = hasattr(SqliteLedger, "settle_absent")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's settings, smaller than in use so that a history lasts minutes. Seconds, unless named otherwise."""

    timeout_s: float
    max_in_flight: int
    max_waiting: int
    max_wait_s: float
    implicit_window_s: float
    ttl_s: float
    settle_after_s: float
    interval_s: float
    watch_s: float
    listings_per_minute: int
    breaker_failures: int
    breaker_open_s: float
    absence: Literal["witnessed", "trusted", "never"]

    @property
    def noticed_within_s(self) -> float:
        """How long until a listing is held against all that the ledger knows, twice."""
        return 250 * self.interval_s

    def of_the_gateway(self) -> real.Settings:
        """The same as the gateway's own settings."""
        return real.Settings(
            upstream=real.Upstream(
                timeout_s=self.timeout_s, max_in_flight=self.max_in_flight, breaker_failures=self.breaker_failures,
                breaker_open_s=self.breaker_open_s,
            ),
            admission=real.Admission(max_wait_s=self.max_wait_s, max_waiting=self.max_waiting),
            budget=real.Budget(reserved_per_minute=self.listings_per_minute),
            idempotency=real.Idempotency(ttl_s=self.ttl_s, implicit_window_s=self.implicit_window_s),
            reconcile=real.Reconcile(
                interval_s=self.interval_s, settle_after_s=self.settle_after_s, absence=self.absence,
                watch_s=self.watch_s,
            ),
            shutdown=real.Shutdown(drain_s=self.timeout_s + self.max_wait_s + 2),
        )  # fmt: skip

    @property
    def settled_within_s(self) -> float:
        """Once nothing is broken any more: how long until no order is left in doubt, and a look's pace besides."""
        paced = LISTING_PACE_S if self.interval_s * self.listings_per_minute < LISTING_PACE_S else 0
        return self.settle_after_s + 3 * self.interval_s + paced + 10


class Rates(msgspec.Struct, kw_only=True):
    """How often (0 to 1) each thing goes wrong. All 0 from the moment on at which the world is healed."""

    not_sent: float = 0
    cut: float = 0
    lost_answer: float = 0
    hang: float = 0
    server_error: float = 0
    throttled: float = 0
    key_refused: float = 0
    odd_answer: float = 0
    rejected: float = 0
    slow: float = 0
    acts_late: float = 0
    doubles: float = 0
    listing_fails: float = 0
    listing_odd: float = 0
    listing_short: float = 0
    listing_hiccup: float = 0
    disk_busy: float = 0
    disk_full: float = 0
    disk_broken: float = 0
    disk_slow: float = 0
    read_fails: float = 0
    hang_up: float = 0
    slow_machine: float = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A history's frame. `stale_s`: how far behind OfferGrid's listings are, at most.
    `foreign`: how many orders of another gateway, or of none, stand in each account.
    """

    seed: int
    mode: Mode
    settings: Settings
    rates: Rates
    orders: int
    tenants: int
    teams: int
    processes: int
    lasts_s: float
    scramble: float
    stale_s: float
    kills: int
    aimed_kills: int
    pauses: int
    power_cuts: int
    stops: int
    clock_steps: int
    repeats: int
    resolves: int
    foreign: int


def plan_of(seed: int, *, large: bool = False) -> Plan:
    """The plan of one seed. `large`: with some three times as many orders, for long runs."""
    chance = Random(seed * 2 + 1)  # noqa: S311 - a history must be the same again
    calm = chance.random() < 0.04
    mode: Mode = chance.choices(("sound", "late", "short"), (93, 4, 3))[0]
    settings = _settings(chance, mode)
    return Plan(
        seed=seed,
        mode=mode,
        settings=settings,
        rates=Rates() if calm else _rates(chance, mode),
        orders=chance.randint(10, 92) if large else chance.randint(6, 24),
        tenants=chance.randint(1, 4),
        teams=chance.randint(1, 2),
        processes=chance.choice((1, 2, 2)),
        lasts_s=chance.choice((5, 20, 60, 120)),
        scramble=chance.choice((0, 0.1, 0.5, 1)),
        stale_s=0 if calm else settings.settle_after_s * chance.choice((0, 0, 0.2, 0.6)),
        kills=0 if calm else chance.choice((0, 0, 1, 2, 4)),
        aimed_kills=0 if calm else chance.choice((0, 1, 2, 3)),
        pauses=0 if calm else chance.choice((0, 0, 1, 2)),
        power_cuts=0 if calm else chance.choice((0, 0, 0, 1)),
        stops=0 if calm else chance.choice((0, 0, 1, 2)),
        clock_steps=chance.choice((0, 0, 1, 3)),
        repeats=chance.choice((0, 0, 2, 5)),
        resolves=0 if calm else chance.choice((0, 0, 0, 3)),
        foreign=0 if calm else chance.choice((0, 0, 0, 1, 4)),
    )


def _settings(chance: Random, mode: Mode) -> Settings:
    interval_s = chance.choice((10.0, 20.0, 30.0)) if mode == "sound" else 10.0  # whose 120-fold has to pass
    return Settings(
        timeout_s=chance.choice((2.0, 5.0, 10.0, 30.0)),
        max_in_flight=chance.choice((1, 2, 4, 50)),
        max_waiting=chance.choice((0, 1, 5, 50)),
        max_wait_s=chance.choice((0.5, 3.0, 10.0)),
        implicit_window_s=chance.choice((0.0, 30.0, 300.0)),
        ttl_s=chance.choice((60.0, 600.0, 86_400.0)),
        settle_after_s=chance.choice((5.0, 20.0, 60.0)),
        interval_s=interval_s,
        watch_s=chance.choice((600.0, 3_600.0)),
        listings_per_minute=chance.choice((6, 30)),
        breaker_failures=chance.choice((3, 10, 50)),
        breaker_open_s=chance.choice((1.0, 5.0)),
        absence=chance.choice(("witnessed", "witnessed", "witnessed", "never")) if ABSENCE_IS_PROVEN else "never",
    )


def _rates(chance: Random, mode: Mode) -> Rates:
    level = chance.choice((0.02, 0.1, 0.3))
    drawn = {name: level * chance.random() if chance.random() < 0.4 else 0.0 for name in Rates.__struct_fields__}
    drawn["disk_broken"] *= 0.1  # each one ends a process
    drawn["slow_machine"] *= 0.02  # of every step
    for name in ("listing_fails", "listing_odd", "listing_short", "listing_hiccup"):
        drawn[name] = min(0.6, 4 * drawn[name])  # there are few listings
    if mode == "late":
        drawn["acts_late"] = 0.1 + 0.3 * chance.random()
    if mode == "short":
        drawn["listing_short"] = 0.3 + 0.3 * chance.random()
        drawn["lost_answer"] = max(drawn["lost_answer"], 0.2)
    return Rates(**drawn)
