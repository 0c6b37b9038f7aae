"""One story of an order, stopped at one step, gone on with afterwards, and held against the promise.

A `Story` says what happened before, what the tenant does while the process is to be stopped, and with which settings.
`told_in_full` plays it without stopping and gives its steps; `stopped_at` plays it once more and stops the process at
one of them, starts the program again on what is left, lets the tenant ask again until it knows, waits until nothing
is unsettled, and returns what is broken.
"""

import http.client
import json
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.vault import Secret
from gateway.sandbox import SandboxThread
from gateway.settings import load_settings
from gateway.wiring import open_administration
from tests.crash.nursery_client import WITHIN_S, Nursery, Run
from tests.crash.steps import BEFORE, PAUSE
from tests.support import promise
from tests.support.held import differences, least
from tests.support.promise import Records, Told, told
from tests.support.records import ORDER_ID, count_of, files_under, records_of, rows_of, vault_of, watch_history
from tests.support.stack import UPSTREAM_KEY, an_order

HEALING: Final[Mapping[str, Any]] = {
    "reconcile__interval_s": 0.05,
    "reconcile__settle_after_s": 0.2,
    "budget__reserved_per_minute": 100_000,
    # Nothing is ever short, and every call is counted.
    "budget__per_minute": 1_000_000,
    "budget__per_hour": 0,
}
RESTING: Final[Mapping[str, Any]] = {**HEALING, "upstream__keepalive_idle_s": 0.05}
"""So that a process that has nothing more to do soon holds nothing for what it did."""

LOOKS: Final = 20
CUSTOMER: Final = "A Customer"
KEY_CANARY: Final = "key-of-"
SECOND_KEY: Final = "sandbox-key-second-of-the-account"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts from the start of the process."""

    number: int
    name: str


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a ledger that has a team, its key, a tenant and a token: copied for each life.

    `at_rest`: what a process holds that has recovered nothing and has nothing to do. None: nobody has looked.
    """

    folder: Path
    token: str
    at_rest: Counter[str] | None = None


def make_home(folder: Path) -> Home:
    environ = environ_of(folder, "http://localhost:3000")
    with open_administration(load_settings(None, environ)) as admin:
        admin.add_team("team")
        admin.add_key("team", Secret(UPSTREAM_KEY))
        admin.add_tenant(NewTenant(name="shop", team="team"))
        token = admin.issue_token("shop").token.text()
    watch_history(folder / "var/ordergate.db")
    return Home(folder=folder, token=token)


def with_rest(home: Home, nursery: Nursery, folder: Path) -> Home:
    """Looked at several times after an order like any other: what is there only now and then is not held."""
    folder.mkdir()
    with SandboxThread(per_minute=0, per_hour=0) as sandbox:
        life = Life(nursery, home, folder, sandbox)
        assert life.start(**RESTING), life.run.log()
        assert (told := life.ask("the first")) is not None
        assert told.status == 201
        life.until(lambda: not life.run.held().all()["descriptor connection"])
        looks = []
        for _ in range(LOOKS):
            looks.append(life.run.held().all())
            time.sleep(0.01)
        life.close()
    return msgspec.structs.replace(home, at_rest=least(looks))


def environ_of(folder: Path, base_url: str, **settings: Any) -> dict[str, str]:
    return {
        "ORDERGATE_TENANT_API__PORT": "0",
        "ORDERGATE_ADMIN_API__PORT": "0",
        "ORDERGATE_UPSTREAM__BASE_URL": base_url,
        "ORDERGATE_STORAGE__URL": f"sqlite:///{folder / 'var/ordergate.db'}",
        "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(folder / "var/master.key"),
        "ORDERGATE_RECONCILE__INTERVAL_S": "86400",
        **{f"ORDERGATE_{name.upper()}": str(value) for name, value in settings.items()},
    }


class Life:
    """One folder, one sandbox, and what the tenant was told, over as many processes as it takes."""

    def __init__(self, nursery: Nursery, home: Home, folder: Path, sandbox: SandboxThread) -> None:
        if home.folder.exists():
            shutil.copytree(home.folder / "var", folder / "var")
        self.folder = folder
        self.sandbox = sandbox
        self.told: list[Told] = []
        self.wanted: dict[str, str | None] = {}
        self.others: list[Run] = []
        self.late: set[str] = set()
        self.resolved: set[str] = set()
        self._behind_its_back = 0
        self._nursery = nursery
        self._token = home.token
        self._at_rest = home.at_rest
        self._run: Run | None = None
        self._served: list[Run] = []

    @property
    def ledger(self) -> Path:
        return self.folder / "var/ordergate.db"

    def launch(self, *, beside: bool = False, **settings: Any) -> Run:
        """A further process on this folder, which ends with this life; `beside` one whose steps are counted."""
        environ = self._environ(**settings) | ({"CRASH_BESIDE": "1"} if beside else {})
        run = self._nursery.run(["serve"], self.folder, environ)
        self.others.append(run)
        self._served.append(run)
        return run

    def start(self, crash_at: int | str | None = None, how: str = BEFORE, **settings: Any) -> bool:
        """This life's next process, its steps counted where `crash_at` is given. Whether it came up."""
        self._run = self._nursery.run(["serve"], self.folder, self._counted(crash_at, how, **settings))
        self._served.append(self._run)
        return self._run.ready()

    def _counted(self, crash_at: int | str | None, how: str, **settings: Any) -> dict[str, str]:
        environ = self._environ(**settings)
        if crash_at is not None:
            steps = self.folder / "steps"
            steps.unlink(missing_ok=True)
            environ |= {"CRASH_STEPS": str(steps), "CRASH_AT": str(crash_at), "CRASH_HOW": how}
        return environ

    def _environ(self, **settings: Any) -> dict[str, str]:
        return environ_of(self.folder, self.sandbox.base_url, **settings)

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        with open_administration(load_settings(None, self._environ())) as found:
            yield found

    def command(self, *args: str, crash_at: int | str | None = None, how: str = BEFORE, **settings: Any) -> int:
        """A command beside whatever runs, its steps counted; its exit status."""
        return self._nursery.run(args, self.folder, self._counted(crash_at, how, **settings)).end()

    def said(self) -> str:
        """The end of what the newest process of this folder said."""
        logs = sorted(self.folder.glob("log-*"), key=lambda file: int(file.name.partition("-")[2]))
        return logs[-1].read_text()[-2000:]

    @property
    def run(self) -> Run:
        assert self._run is not None
        return self._run

    def steps(self) -> list[Step]:
        file = self.folder / "steps"
        lines = file.read_text().splitlines() if file.exists() else []
        return [Step(number=int(line.partition(" ")[0]), name=line.partition(" ")[2]) for line in lines]

    def quiet(self, for_s: float = 0.05) -> None:
        """Waits until the process does nothing any more: no step for that long, or its death."""
        before = -1
        while before != (before := len(self.steps())) and not self.run.ended.wait(for_s):
            pass

    def until(self, holds: Callable[[], object]) -> None:
        """Waits for a condition, or for the death of the process."""
        until = time.monotonic() + WITHIN_S
        while not holds() and not self.run.ended.wait(0.005):
            assert time.monotonic() < until, "what was waited for never came"

    def ask(self, mark: str, key: str | None = None, *, port: int | None = None) -> Told | None:
        """One request for what `mark` names; None where no whole answer came. May be called by several threads."""
        self.wanted[mark] = key
        body = json.dumps(an_order(notes=mark)).encode()
        lines = [
            "POST /orders HTTP/1.1",
            "host: localhost",
            f"authorization: Bearer {self._token}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *([] if key is None else [f"idempotency-key: {key}"]),
        ]
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        asked_at = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port or self.run.port()), timeout=WITHIN_S) as connection:
                connection.sendall(request)  # in one piece: whoever reads it takes one step
                answer = http.client.HTTPResponse(connection, method="POST")
                answer.begin()
                content = answer.read()
                answer.close()
        except (OSError, http.client.HTTPException):  # it was stopped meanwhile
            return None
        found = told(
            tenant="shop", key=key, mark=mark, status=answer.status, headers=dict(answer.getheaders()), body=content,
            asked_at=asked_at, told_at=time.monotonic(),
        )  # fmt: skip
        self.told.append(found)
        return found

    def arrives_late(self) -> None:
        """The first order sent to OfferGrid comes in once more, byte for byte, as from a line that held it back."""
        for sent in self.sandbox.call(lambda box: [log.raw("in") for log in box.connections]):
            if not sent.startswith(b"POST"):
                continue
            self.late |= {order_id.decode() for order_id in ORDER_ID.findall(sent)}
            with socket.create_connection(("127.0.0.1", self.sandbox.port), timeout=WITHIN_S) as connection:
                connection.sendall(sent)
                assert connection.recv(4096).startswith(b"HTTP/1.1 201")
            self._behind_its_back += 1
            return

    def unsettled(self) -> list[str]:
        return promise.nothing_unsettled(rows_of(self.ledger))

    def settled(self) -> list[str]:
        """Waits until every order is settled; those that are not in the end."""
        until = time.monotonic() + WITHIN_S / 2
        while (left := self.unsettled()) and time.monotonic() < until:
            time.sleep(0.02)
        return left

    def heal(self) -> list[str]:
        """The program started again, with the tenant asking until it knows. What is not known in the end, and what
        that process then still holds for what it did.
        """
        self.sandbox.clear_faults()
        assert self.start(**RESTING), f"it does not start again: {self.run.log()}"
        until = time.monotonic() + WITHIN_S / 2
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.02)
        return left or self._not_let_go()

    def _not_let_go(self) -> list[str]:
        """Waits until the process holds no more and no less than one that had nothing to recover."""
        if self._at_rest is None:
            return []
        looks, until = [self.run.held().all()], time.monotonic() + WITHIN_S / 2
        while differences(looks[-1], self._at_rest) and time.monotonic() < until:
            time.sleep(0.02)
            looks.append(self.run.held().all())
        if not differences(looks[-1], self._at_rest):
            return []
        return [f"it holds {sentence}" for sentence in differences(least(looks[-LOOKS:]), self._at_rest)]

    def _left(self) -> list[str]:
        answers = {mark: self.ask(mark, key) for mark, key in self.wanted.items()}
        open_ones = [
            f"mark {mark!r} was told last {answer and (answer.status, answer.outcome)}"
            for mark, answer in answers.items()
            if answer is None or not answer.final
        ]
        return [*open_ones, *self.unsettled()]

    def records(self) -> Records:
        return records_of(
            told=self.told,
            sandbox=self.sandbox,
            ledger=self.ledger,
            seals=vault_of(self.folder),
            late=frozenset(self.late),
            resolved=frozenset(self.resolved),
        )

    def broken(self) -> list[str]:
        canaries = {
            "the upstream key": UPSTREAM_KEY,
            "the token": self._token,
            "a customer": CUSTOMER,
            "an idempotency key": KEY_CANARY,
        }
        lines = [line for run in self._served for line in run.log()]
        said = [f"it said {line}" for line in lines if line["event"] in ("defect", "text")]
        return [
            *promise.broken(self.records()),
            *promise.canaries_found(files_under(self.folder), canaries),
            *self.uncounted(),
            *said,
        ]

    def uncounted(self) -> list[str]:
        """Every call that OfferGrid got was counted against its key before it was sent, whatever died since."""
        got = len(self.sandbox.calls) - self._behind_its_back
        counted = count_of(self.ledger, "SELECT count(*) FROM calls WHERE instead_of IS NULL")
        return [] if got <= counted else [f"OfferGrid got {got} calls, and {counted} were counted"]

    def close(self) -> None:
        for run in (*self.others, *([self._run] if self._run else [])):
            run.kill()
        shutil.rmtree(self.folder)
        self.sandbox.clear_faults()
        self.sandbox.reset()


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """`before` may start processes of its own; `act` runs while the counted one does, and ends when that one is dead.

    `from_start`: the steps of that process's start belong to the story. `settings` are that process's. `mixed`: orders
    go side by side in it, so that a step's number is another one's at times. `also`: what else is broken in the end.
    """

    act: Callable[[Life], object]
    before: Callable[[Life], object] | None = None
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)
    also: Callable[[Life], list[str]] = lambda _: []
    from_start: bool = False
    mixed: bool = False


@contextmanager
def a_stage(nursery: Nursery, home: Home, folder: Path) -> Iterator["Stage"]:
    folder.mkdir()
    keys = dict.fromkeys((UPSTREAM_KEY, SECOND_KEY), "account")
    with SandboxThread(keys=keys, per_minute=0, per_hour=0) as sandbox:
        yield Stage(nursery, home, folder, sandbox)


class Stage:
    """Where stories are played: on a sandbox of its own, one after the other."""

    def __init__(self, nursery: Nursery, home: Home, folder: Path, sandbox: SandboxThread) -> None:
        self._nursery = nursery
        self._home = home
        self._folder = folder
        self._sandbox = sandbox
        self._count = 0

    @contextmanager
    def life(self) -> Iterator[Life]:
        while not _listens(self._sandbox.port):  # a fault of the life before may have closed it for a moment
            time.sleep(0.01)
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        life = Life(self._nursery, self._home, folder, self._sandbox)
        try:
            yield life
        finally:
            life.close()

    def told_in_full(self, story: Story) -> list[Step]:
        """The story's steps, in the order in which they were taken."""
        with self.life() as life:
            if story.before is not None:
                story.before(life)
            assert life.start(0, **story.settings), life.run.log()
            first = 0 if story.from_start else len(life.steps())
            story.act(life)
            life.quiet(0.2)
            life.run.kill()
            steps = life.steps()[first:]
            while steps[-1].name == "tenant receive":  # that it has hung up, some time after its answer
                steps.pop()
            wrong = [*life.heal(), *life.broken(), *story.also(life)]
            assert not wrong, wrong
            return steps

    def stopped_at(self, story: Story, step: Step, how: str) -> tuple[str | None, list[str]]:
        """The name of the step that it was stopped at (None: it did not come so far), and what is broken."""
        with self.life() as life:
            if story.before is not None:
                story.before(life)
            if life.start(step.number, how, **story.settings):
                story.act(life)
                life.quiet()
            life.run.kill()
            steps = life.steps()
            name = steps[-1].name if len(steps) == step.number else None
            name = step.name if story.mixed else name
            return name, [*life.heal(), *life.broken(), *story.also(life)]

    def paused_at(
        self, story: Story, step: Step, for_s: float
    ) -> tuple[str | None, list[str], Records, list[Step]]:
        """As `stopped_at`; but the process stands still for that long and goes on then. Beside it runs another one,
        launched by `before`, that the tenant asks meanwhile. With the records of what it came to, and the steps that
        it had taken when it stood still.
        """
        with self.life() as life, ThreadPoolExecutor(1) as tenant:
            if story.before is not None:
                story.before(life)
            assert life.start(step.number, PAUSE, **story.settings), life.run.log()
            asked = tenant.submit(story.act, life)
            life.until(lambda: life.run.stands_still() or asked.done())
            steps = life.steps()
            name = steps[-1].name if len(steps) == step.number and life.run.stands_still() else None
            began = time.monotonic()
            while time.monotonic() < began + for_s:
                for mark, key in life.wanted.items():
                    life.ask(mark, key, port=life.others[0].port())
                time.sleep(0.1)
            life.run.signal(signal.SIGCONT)
            asked.result()
            left = life.heal()
            return name, [*left, *life.broken()], life.records(), steps


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S).close()
    except ConnectionRefusedError:
        return False
    return True


def many(steps: Sequence[Step]) -> str:
    """For people: the steps in a row, equal ones together."""
    found: list[list[Any]] = []
    for step in steps:
        name = step.name.partition(" write ")[0] + " write" if " write " in step.name else step.name
        if found and found[-1][0] == name:
            found[-1][1] += 1
        else:
            found.append([name, 1])
    return ", ".join(f"{name} × {count}" if count > 1 else name for name, count in found)
