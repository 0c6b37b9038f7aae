"""One history from one seed: it is played, healed, and judged."""

import asyncio
import gc
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gateway.core.directory import Tenant
from tests.simulate.judge import judge
from tests.simulate.plan import Plan, Rates, plan_of
from tests.simulate.simulated_disk import Disk
from tests.simulate.simulated_gateway import LEDGER_ID, GatewayProcess, Machine, PlainSeals
from tests.simulate.simulated_upstream import LATEST, Accounts
from tests.simulate.tenants import Tenants
from tests.simulate.virtual_loop import Astray, Host
from tests.simulate.world import World

AIMED_AT = (
    "asking", "committed", "first_byte", "taken", "attempt_ended", "answering", "listed", "started", "not_committed",
)  # fmt: skip


MEMORY = Path("/dev/shm")
KEY_STATES = ("active", "retiring", "standby")

_VERIFY = """
UPDATE upstream_keys SET state = 'standby', verified_ms = 0 WHERE state = 'refused';
UPDATE meta SET value = value + 1 WHERE name = 'directory_version';
"""


class Verdict(msgspec.Struct, kw_only=True):
    """What came of one history. `faults` empty: every invariant held. `digest` is the same for the same seed."""

    seed: int
    faults: list[str]
    digest: str
    orders: int
    seen: Counter[str]
    steps: int
    virtual_s: float
    story: list[str]


class History:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.world = World(plan)
        teams = {_secret(team, state): team for team in range(1, plan.teams + 1) for state in KEY_STATES}
        tenants = [_tenant(number, plan) for number in range(1, plan.tenants + 1)]
        self.disk = Disk(self.world, _directory(plan.teams))
        self.grid = Accounts(self.world, self.disk)
        self.machine = Machine(self.world, self.disk, self.grid, folder, teams)
        self.processes: list[GatewayProcess] = []
        self.tenants = Tenants(self.world, tenants, self.processes)
        self._numbers = 0
        self._due: list[Host] = []
        self._aims = Counter[str]()

    def play(self) -> None:
        world, plan = self.world, self.plan
        world.on_note = self._noted
        world.loop.after_step = self._after_step
        with self.machine.standing_in():
            for slot in range(plan.processes):
                self._start(slot)
            for wish in self.tenants.wishes:
                world.loop.run_host(world, lambda wish=wish: world.loop.create_task(self.tenants.want(wish)))
            self._plan_trouble()
            world.later(plan.lasts_s + 1, self._heal)
            world.loop.run_until(lambda: world.healed and self._quiet())
            if plan.mode == "late":
                self._run_on(LATEST * plan.settings.settle_after_s)
            self._run_until(self._is_settled, plan.settings.settled_within_s)
            judge(self, "settled")
            self._ask_all_again()
            if plan.foreign:  # an order that was placed now is the first that tells whose listing it is
                self._run_until(self._is_settled, plan.settings.settled_within_s)
            if plan.mode != "sound":
                self._run_until(self._is_noticed, plan.settings.noticed_within_s)
            judge(self, "end")

    def _run_until(self, done: Callable[[], bool], at_most_s: float) -> None:
        """Asked now and then only: time passes faster than answers are found."""
        until = self.world.loop.time() + at_most_s
        while self.world.loop.time() < until and not done():
            self._run_on(min(at_most_s / 10, until - self.world.loop.time()))

    def _is_settled(self) -> bool:
        unsettled = "SELECT count(*) FROM orders WHERE outcome IN ('queued', 'in_flight', 'unknown')"
        return bool(self.disk.real.execute(unsettled).get == 0)

    def _is_noticed(self) -> bool:
        """Whether each order that OfferGrid has is a row's, or noted as a stray."""
        noted = "SELECT upstream_order_id FROM orders UNION SELECT upstream_order_id FROM strays"
        known = {row[0] for row in self.disk.real.execute(noted)}
        return all(taken.upstream_id in known for taken in self.grid.taken)

    def _quiet(self) -> bool:
        return not self.tenants.busy and any(process.accepts for process in self.processes)

    def _run_on(self, seconds: float) -> None:
        until = self.world.loop.time() + seconds
        self.world.later(seconds, lambda: None)
        self.world.loop.run_until(lambda: self.world.loop.time() >= until)

    def _ask_all_again(self) -> None:
        """In a healed world every order that is asked for comes to an end that is told."""
        world, plan, left = self.world, self.plan, list(self.tenants.wishes)
        world.chance.shuffle(left)

        async def ask() -> None:
            for wish in left:
                for _ in range(20):
                    told = await self.tenants.ask(wish)
                    cannot_be_told = plan.settings.absence == "never" or plan.foreign
                    if told.final or (cannot_be_told and told.outcome == "unknown"):
                        break
                    await asyncio.sleep(1)
                else:
                    world.wrong(f"{wish.ref} of {wish.tenant.name} comes to no end: {wish.told[-1].kind}")
            left.clear()

        world.loop.run_host(world, lambda: world.loop.create_task(ask()))
        world.loop.run_until(lambda: not left)

    # Processes: a supervisor starts one anew in each slot.

    def _start(self, slot: int) -> None:
        self._numbers += 1
        process = GatewayProcess(self.machine, slot, self._numbers, self._gone)
        self.processes.append(process)
        self.world.hosts.append(process)
        process.start()

    def _gone(self, process: GatewayProcess) -> None:
        self.processes.remove(process)
        self.world.note("gone", process)
        if not self.processes:
            self.disk.all_gone(power_cut=self._power_is_cut)
        self.world.later(self.world.between(0.05, 4), self._start, process.slot)

    _power_is_cut = False

    # Trouble.

    def _plan_trouble(self) -> None:
        world, plan = self.world, self.plan
        for count, what in (
            (plan.kills, self._kill_any), (plan.pauses, self._pause_any), (plan.stops, self._stop_any),
            (plan.power_cuts, self._cut_power), (plan.clock_steps, self._step_clock),
            (plan.resolves, self._resolve_any),
        ):  # fmt: skip
            for _ in range(count):
                world.later(world.between(0, plan.lasts_s), what)
        self._verify_keys()
        for _ in range(plan.aimed_kills):
            self._aims[f"{world.chance.choice(AIMED_AT)} {world.chance.randint(1, 2 * plan.orders)}"] += 1

    def _noted(self, what: str, host: Host) -> None:
        if self._aims and host is not self.world and f"{what} {self.world.seen[what]}" in self._aims:
            self._due.append(host)

    def _after_step(self) -> None:
        if self._due and not self.world.healed:
            for host in self._due:
                if isinstance(host, GatewayProcess) and not host.dead:
                    if self.world.chance.random() < 0.3:
                        self._pause(host)
                    else:
                        self.world.seen["aimed kill"] += 1
                        host.die()
            self._due.clear()
        if self.world.happens(self.world.rates.slow_machine):
            self.world.loop.pass_time(self.world.soon(3))

    def _any(self) -> GatewayProcess | None:
        return self.world.chance.choice(self.processes) if self.processes and not self.world.healed else None

    def _kill_any(self) -> None:
        if process := self._any():
            process.die()

    def _pause_any(self) -> None:
        if process := self._any():
            self._pause(process)

    def _pause(self, process: GatewayProcess) -> None:
        process.paused = True
        self.world.note("paused", process)
        self.world.later(self.world.between(0.1, 2.5) * self.plan.settings.timeout_s, self._wake, process)

    def _wake(self, process: GatewayProcess) -> None:
        if process.paused:
            self.world.note("woken", process)
            self.world.loop.wake(process)

    def _stop_any(self) -> None:
        if process := self._any():
            self.world.loop.run_host(process, process.stopping.set)

    def _verify_keys(self) -> None:
        """An operator lets keys be used again that OfferGrid has refused."""
        self.disk.real.execute(_VERIFY)
        if not self.world.healed:
            self.world.later(self.world.between(1, 30), self._verify_keys)

    def _resolve_any(self) -> None:
        """An operator, who knows what OfferGrid has, settles an unknown order by hand."""
        process = self._any()
        unknown = [
            row[0] for row in self.disk.real.execute("SELECT order_id FROM orders WHERE outcome = 'unknown'")
        ]
        if process is None or not unknown:
            return
        order_id = self.world.chance.choice(unknown)
        if all(
            post.ended is not None and post.acts_at is None for post in self.grid.posts if post.order_id == order_id
        ):
            placed_as = [taken.upstream_id for taken in self.grid.taken if taken.post.order_id == order_id]
            process.resolve(order_id, placed_as[0] if placed_as else None)

    def _cut_power(self) -> None:
        if self.world.healed:
            return
        self.world.note("power_cut", self.world)
        self._power_is_cut = True
        for process in list(self.processes):
            process.die()
        self._power_is_cut = False
        self.machine.reboot()

    def _step_clock(self) -> None:
        self.machine.clock.wall_offset_s += self.world.chance.choice((-86_400, -3_600, -1, 1, 3_600, 31_536_000))

    def _heal(self) -> None:
        world = self.world
        world.healed = True
        world.rates = Rates()
        for process in list(self.processes):
            self._wake(process)
        self._verify_keys()
        world.note("healed", world)

    def close(self) -> None:
        self.world.on_note = self.world.loop.after_step = None
        for process in self.processes:
            self.world.hosts.append(process)
        self.world.loop.bury(self.world.hosts)
        for process in self.processes:
            process.let_go()
        self.disk.close()


@contextmanager
def a_folder() -> Iterator[Path]:
    """For locks and marks: in memory where there is such a place, for a real disk takes real time to sync."""
    with tempfile.TemporaryDirectory(prefix="simulate-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def play_one(seed: int, *, large: bool = False) -> Verdict:
    """`play` in a folder of its own."""
    with a_folder() as folder:
        return play(seed, folder, large=large)


def play(seed: int, folder: Path, *, large: bool = False) -> Verdict:
    """Plays one seed; `folder` is for the kernel's locks. Never raises for what the gateway does: `faults` tell."""
    collecting = gc.isenabled()
    gc.disable()  # what the collector does and when is no part of the history
    try:
        history = History(plan_of(seed, large=large), folder)
        world = history.world
        try:
            history.play()
        except Astray as fault:
            world.wrong(str(fault))
        world.faults.extend(world.loop.defects)
        verdict = Verdict(
            seed=seed, faults=list(world.faults), digest=world.digest(), orders=history.plan.orders, seen=world.seen,
            steps=world.loop.steps, virtual_s=world.loop.time(), story=world.story,
        )  # fmt: skip
        history.close()
        return verdict
    finally:
        if collecting:
            gc.enable()


def _tenant(number: int, plan: Plan) -> Tenant:
    team_id = number % plan.teams + 1
    return Tenant(
        tenant_id=number, name=f"tenant{number}", scope=f"tenant{number}", team_id=team_id, team=f"team{team_id}",
        state="active", require_idempotency_key=False, guaranteed_per_minute=None, implicit_window_s=None,
        defaults={}, enforced={}, created_ms=0,
    )  # fmt: skip


def _directory(teams: int) -> str:
    """The rows of teams and their keys, and the ledger's name, as SQL."""
    seals, rows = PlainSeals(), [f"INSERT INTO meta VALUES ('ledger_id', '{LEDGER_ID}');"]  # noqa: S608 - nothing of it is anybody's text
    for team in range(1, teams + 1):
        rows.append(f"INSERT INTO teams (team_id, name, created_ms) VALUES ({team}, 'team{team}', 0);")  # noqa: S608 - numbers only
        for state in KEY_STATES:
            key_id = f"key-{team}-{state}"
            place = {"table": "upstream_keys", "row": f"{team}/{key_id}", "column": "key"}
            sealed = seals.seal(_secret(team, state).encode(), **place)
            rows.append(  # nothing in it is anybody's text
                "INSERT INTO upstream_keys (key_id, team_id, state, sealed_key, created_ms, verified_ms)"  # noqa: S608 - as above
                f" VALUES ('{key_id}', {team}, '{state}', x'{sealed.hex()}', 0, 0);"
            )
    return "\n".join(rows)


def _secret(team: int, state: str) -> str:
    return f"secret-{team}-{state}"
