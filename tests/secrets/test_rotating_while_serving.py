"""Rotating the master key under load, and what a running gateway does with records that were tampered with."""

import functools
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.sandbox import SandboxThread
from tests.cli.conftest import Program
from tests.support import promise
from tests.support.promise import Told, told
from tests.support.records import records_of, vault_of, watch_history
from tests.support.stack import Process, Stack, an_order, running_stack

ORDERS = 1_000
CLIENTS = 4
ROTATIONS = 5


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    with SandboxThread(per_minute=0, per_hour=0) as running:
        yield running


@pytest.fixture
def stack(sandbox: SandboxThread) -> Iterator[Stack]:
    unlimited = {"budget__per_minute": 0, "budget__per_hour": 0, "budget__reserved_per_minute": 0}
    with running_stack(upstream_base_url=sandbox.base_url, **unlimited) as running:
        yield running


def wait_until(holds: Callable[[], object], what: str) -> None:
    """A change acts within a second; a busy machine gets thirty."""
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def ledger_of(stack: Stack) -> Path:
    return stack.folder / "var/ordergate.db"


def test_no_order_fails_while_the_master_key_is_rotated_under_two_gateways(
    stack: Stack, sandbox: SandboxThread
) -> None:
    """At least `ORDERS` orders, and `ROTATIONS` rotations in between; keys are added meanwhile."""
    watch_history(ledger_of(stack))
    program = Program(stack.folder, stack.environ)
    second = Process(stack.environ, stack.folder)
    rotated = threading.Event()
    try:
        second.wait_for("ready")
        ports = (stack.process.address("tenant"), second.address("tenant"))
        with ThreadPoolExecutor(CLIENTS) as clients:
            asked = [
                clients.submit(orders_until, stack, ports[number % 2], f"client{number}", rotated)
                for number in range(CLIENTS)
            ]
            try:
                for turn in range(ROTATIONS):
                    done = program("secrets", "rotate", "--json", *(["--drop-old"] if turn % 2 else []))
                    assert (done.status, done.value["version"], done.value["unreadable"]) == (0, turn + 2, []), done
                    added = program("key", "add", "team", "--json", typed=f"sandbox-key-{turn}\n")
                    assert added.status == 0, added
            finally:
                rotated.set()
            answers = [answer for client in asked for answer in client.result()]
        assert {answer.status for answer in answers} == {201} and len(answers) >= ORDERS
        for process in (stack.process, second):
            wait_until(functools.partial(follows, process), "it did not follow")
            assert not [line for line in process.log if line["level"] == "error"]
    finally:
        second.stop()
    stack.restart()
    with stack.client() as client:
        again = client.post("/orders", json=an_order(notes="client0 0"), headers={"idempotency-key": "client0-0"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    found = records_of(told=answers, sandbox=sandbox, ledger=ledger_of(stack), seals=vault_of(stack.folder))
    assert promise.broken(found) == []
    assert {post.upstream_key for post in found.posts} == {"sandbox-key-of-the-team"}
    assert program("db", "check").status == 0 and program("audit", "verify").status == 0


def newest_version(process: Process) -> int:
    return max((int(line.get("version", 1)) for line in process.log if line["event"] == "master_key"), default=1)


def follows(process: Process) -> bool:
    return newest_version(process) == ROTATIONS + 1


def orders_until(stack: Stack, base_url: str, name: str, enough: threading.Event) -> list[Told]:
    """One order after the other, until enough was rotated and enough were placed."""
    answers: list[Told] = []
    with httpx.Client(base_url=base_url, headers=stack.bearer, timeout=60, trust_env=False) as client:
        for number in itertools.count():
            if number >= ORDERS // CLIENTS and enough.is_set():
                return answers
            key = f"{name}-{number}"
            answer = client.post(
                "/orders", json=an_order(notes=f"{name} {number}"), headers={"idempotency-key": key}
            )
            answers.append(
                told(
                    tenant="shop", key=key, mark=f"{name} {number}", status=answer.status_code,
                    headers=answer.headers, body=answer.content,
                )
            )  # fmt: skip
    raise AssertionError("it counts without end")


# --- records that were tampered with ------------------------------------------------------------------------------


def alter(stack: Stack, *statements: str, values: tuple[Any, ...] = ()) -> None:
    """As somebody who may write the database does it, so that running gateways look at it anew."""
    connection = apsw.Connection(str(ledger_of(stack)))
    connection.set_busy_timeout(10_000)
    for name in ("keys_stand_under_the_ledgers_master_key", "new_keys_stand_under_the_ledgers_master_key"):
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for statement in statements:
        connection.execute(statement, values)
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'directory_version'")
    connection.close()


def sealed_keys(stack: Stack) -> list[bytes]:
    connection = apsw.Connection(str(ledger_of(stack)))
    rows: Any = connection.execute("SELECT sealed_key FROM upstream_keys ORDER BY team_id").fetchall()
    connection.close()
    return [sealed for (sealed,) in rows]


SWAPPED_ROWS = (
    "DROP INDEX IF EXISTS one_active_key_a_team",
    "UPDATE upstream_keys SET team_id = CASE team_id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE team_id END",
)


def test_who_swaps_cuts_or_puts_back_a_teams_key_stops_that_team_and_no_other(
    stack: Stack, sandbox: SandboxThread
) -> None:
    """502 `upstream-credentials`; nothing is sent, above all no placeholder; and all of it heals."""
    tokens = [stack.token]
    with stack.administration() as admin:
        for team in ("second", "third"):
            admin.add_team(team)
            admin.add_key(team, Secret(f"sandbox-key-of-{team}"))
            admin.add_tenant(NewTenant(name=f"shop-{team}", team=team))
            tokens.append(admin.issue_token(f"shop-{team}").token.text())
    counter = itertools.count()

    def statuses() -> list[int]:
        """What each team's tenant is told for a new order."""
        answers = [
            httpx.post(
                stack.tenant_url + "/orders", json=an_order(notes=f"order {next(counter)}"),
                headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30,
            )
            for token in tokens
        ]  # fmt: skip
        for answer in answers:
            if answer.status_code == 502:
                problem = answer.json()
                assert problem["type"] == "/problems/upstream-credentials"
                assert (problem["outcome"], problem["retryable"]) == ("not_placed", True)
        return [answer.status_code for answer in answers]

    wait_until(lambda: statuses() == [201, 201, 201], "the new teams are not known")
    before_rotation = sealed_keys(stack)
    assert Program(stack.folder, stack.environ)("secrets", "rotate").status == 0
    whole = sealed_keys(stack)

    def put(sealed: bytes, team_id: int = 1) -> None:
        alter(stack, "UPDATE upstream_keys SET sealed_key = ?1 WHERE team_id = ?2", values=(sealed, team_id))

    def is_stopped(expected: list[int]) -> None:
        wait_until(lambda: statuses() == expected, f"it never came to {expected}: {statuses()}")
        sent = len(sandbox.orders)
        assert statuses() == expected
        assert len(sandbox.orders) == sent + expected.count(201)
        for at, sealed in enumerate(whole):
            put(sealed, at + 1)
        wait_until(lambda: statuses() == [201, 201, 201], "it did not heal")

    put(before_rotation[0])  # of a version that is still in the key file
    is_stopped([502, 201, 201])
    put(whole[1])
    put(whole[0], 2)
    is_stopped([502, 502, 201])
    for length in (0, 1, 3, 30, len(whole[0]) - 1):
        put(whole[0][:length])
        is_stopped([502, 201, 201])
    put(whole[0][:-1] + bytes((whole[0][-1] ^ 1,)))
    is_stopped([502, 201, 201])
    alter(stack, *SWAPPED_ROWS)
    wait_until(lambda: statuses() == [502, 502, 201], "another team's key is lent")
    alter(stack, *SWAPPED_ROWS)
    wait_until(lambda: statuses() == [201, 201, 201], "it did not heal")
    sent = sandbox.call(lambda box: {key for log in box.connections for key in keys_in(log.raw("in"))})
    assert sent == {"sandbox-key-of-the-team", "sandbox-key-of-second", "sandbox-key-of-third"}
    assert not [line for line in stack.process.log if line["level"] == "error" and line["event"] == "defect"]


def keys_in(raw: bytes) -> Iterator[str]:
    for line in raw.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"x-api-key":
            yield value.strip().decode()


def test_a_gateway_whose_key_file_is_gone_goes_on_with_what_it_has_opened(
    stack: Stack, sandbox: SandboxThread
) -> None:
    """The file was rotated where it cannot see it: it says so, sends with the key that it has, and heals by itself."""
    key_file = stack.folder / "var/master.key"
    away = key_file.with_name("away.key")
    elsewhere = {**stack.environ, "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(away)}
    older = key_file.read_bytes()
    key_file.rename(away)
    assert Program(stack.folder, elsewhere)("secrets", "rotate").status == 0
    stack.process.wait_for("master_key")
    with stack.client() as client:
        assert client.post("/orders", json=an_order(notes="meanwhile")).status_code == 201
        line = next(line for line in stack.process.log if line["event"] == "master_key")
        assert line["level"] == "error" and "is not there" in line["error"], json.dumps(line)
        assert "is not there" in refusal_of_a_key(stack)
        write_secret(key_file, older)
        assert "version 2" in refusal_of_a_key(stack), "an older copy of the file was put back"
        away.rename(key_file)
        wait_until(lambda: newest_version(stack.process) == 2, "it did not heal")
        assert client.post("/orders", json=an_order(notes="healed")).status_code == 201
    assert ask_for_a_key(stack).status_code == 201


def refusal_of_a_key(stack: Stack) -> str:
    """Why no further key can be sealed now, as an operator is told over HTTP."""
    answer = ask_for_a_key(stack)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/ledger-unavailable"), answer.text
    return str(answer.json()["detail"])


def ask_for_a_key(stack: Stack) -> httpx.Response:
    return httpx.post(
        f"{stack.admin_url}/admin/teams/team/keys",
        json={"key": "sandbox-key-third"},
        headers={"authorization": f"Bearer {stack.admin_token}"},
        trust_env=False,
    )


def write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
