"""The watch over connections, on a clock that the test moves."""

import msgspec
import pytest

from gateway.clock import SystemClock
from gateway.settings import Settings
from gateway.web.watch import ADMIN_CONNECTIONS, Limits, Phase, Watch


class ByHand(SystemClock):
    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class One:
    """A connection that notes what it was told."""

    def __init__(self, watch: Watch, *, again: bool = False, spared: bool = True) -> None:
        self.phase: Phase | None = None
        self.over: list[Phase] = []
        self._watch, self._again, self._spared = watch, again, spared

    def time_is_over(self, phase: Phase) -> None:
        assert self.phase is None or phase is Phase.UNTAKEN
        self.over.append(phase)
        if self._again:
            self._watch.enter(self, phase)

    def can_be_spared(self) -> bool:
        return self._spared


LIMITS = Limits(
    max_header_bytes=1, header_timeout_s=5, body_timeout_s=10, idle_timeout_s=60, max_connections=1, beside=0
)


@pytest.fixture
def clock() -> ByHand:
    return ByHand()


@pytest.fixture
def watch(clock: ByHand) -> Watch:
    return Watch(LIMITS, clock)


@pytest.mark.parametrize(("phase", "limit_s"), [
    (Phase.FRESH, 5), (Phase.QUIET, 60), (Phase.HEADER, 5), (Phase.LEFTOVER, 10), (Phase.CLOSING, 10),
])  # fmt: skip
def test_each_phase_has_its_limit(watch: Watch, clock: ByHand, phase: Phase, limit_s: float) -> None:
    first, second = One(watch), One(watch)
    watch.enter(first, phase)
    clock.now += 1
    watch.enter(second, phase)
    clock.now += limit_s - 1.5
    watch.sweep()
    assert not first.over
    clock.now += 1
    watch.sweep()
    watch.sweep()
    assert (first.over, second.over) == ([phase], [])
    clock.now += limit_s
    watch.sweep()
    assert second.over == [phase]


def test_a_new_phase_begins_its_own_time(watch: Watch, clock: ByHand) -> None:
    one = One(watch)
    watch.enter(one, Phase.QUIET)
    clock.now += 59
    watch.enter(one, Phase.HEADER)
    clock.now += 4
    watch.sweep()
    assert not one.over
    watch.enter(one, None)
    clock.now += 1_000
    watch.sweep()
    assert not one.over


def test_a_time_that_begins_again_is_told_once_a_sweep(watch: Watch, clock: ByHand) -> None:
    one = One(watch, again=True)
    watch.enter(one, Phase.HEADER)
    clock.now += 5
    watch.sweep()
    watch.sweep()
    assert one.over == [Phase.HEADER]
    clock.now += 5
    watch.sweep()
    assert one.over == [Phase.HEADER] * 2


def test_what_is_not_taken_runs_beside_the_phase(watch: Watch, clock: ByHand) -> None:
    one, gone, resumed = One(watch), One(watch), One(watch)
    for connection in (one, gone, resumed):
        watch.untaken(connection, begins=True)
    watch.enter(one, Phase.QUIET)
    watch.leave(gone)
    watch.untaken(resumed, begins=False)
    clock.now += 60
    watch.sweep()
    assert sorted(phase.name for phase in one.over) == ["QUIET", "UNTAKEN"]
    assert not gone.over
    assert not resumed.over


def test_the_idlest_goes_first_and_none_that_is_in_use(watch: Watch, clock: ByHand) -> None:
    header, arriving, fresh, quiet, young = (
        One(watch), One(watch, spared=False), One(watch), One(watch), One(watch),
    )  # fmt: skip
    watch.enter(header, Phase.HEADER)
    watch.enter(arriving, Phase.FRESH)
    watch.enter(quiet, Phase.QUIET)
    clock.now += 0.5
    watch.enter(fresh, Phase.FRESH)
    clock.now += 3
    watch.enter(young, Phase.QUIET)
    clock.now += 0.5
    assert watch.close_idlest(1.0)
    assert quiet.over == [Phase.QUIET]
    assert watch.close_idlest(1.0)
    assert fresh.over == [Phase.FRESH]
    assert not watch.close_idlest(1.0)
    assert not header.over + arriving.over + young.over


def test_a_fresh_connection_never_outlives_an_idle_one() -> None:
    limits = msgspec.structs.replace(LIMITS, idle_timeout_s=2)
    assert limits.of_phases()[Phase.FRESH] == 2


def test_limits_are_the_settings() -> None:
    settings = Settings()
    tenant, admin = (Limits.of(settings, listener) for listener in ("tenant", "admin"))
    assert tenant.max_connections == settings.tenant_api.max_connections
    assert admin.max_connections == ADMIN_CONNECTIONS
    assert tenant.max_connections + tenant.beside == admin.max_connections + admin.beside
    for limits in (tenant, admin):
        assert limits.header_timeout_s == settings.tenant_api.header_timeout_s
        assert limits.idle_timeout_s == settings.tenant_api.idle_timeout_s
        assert limits.body_timeout_s == settings.tenant_api.body_timeout_s
        assert limits.max_header_bytes == settings.tenant_api.max_header_bytes
