"""A ledger that lost something places nothing before it knows again what was placed; then nothing is placed twice."""

import json
import os
import pwd
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import apsw
import httpx
import pytest

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.sandbox import SandboxThread
from tests.accept.world import problem, wait_until
from tests.cli.conftest import Program
from tests.support.stack import Stack, an_order, running_stack

SETTLE_S = 0.3


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    with SandboxThread(per_minute=0, per_hour=0) as running:
        yield running


@contextmanager
def a_stack(sandbox: SandboxThread, **settings: Any) -> Iterator[Stack]:
    """A gateway, whose quarantine must last a third of a second at least."""
    settings = {"reconcile__settle_after_s": SETTLE_S, **settings}
    with running_stack(upstream_base_url=sandbox.base_url, **settings) as stack:
        yield stack


@pytest.fixture
def stack(sandbox: SandboxThread) -> Iterator[Stack]:
    with a_stack(sandbox) as running:
        yield running


def program(stack: Stack) -> Program:
    return Program(stack.folder, stack.environ)


def ledger_file(stack: Stack) -> Path:
    return stack.folder / "var/ordergate.db"


def mark_file(stack: Stack) -> Path:
    return stack.folder / "var/ordergate.db.mark"


def send(stack: Stack, name: str, *, key: bool = True) -> httpx.Response:
    """One order, with a key or without; the same name is the same order."""
    headers = {"idempotency-key": "key-" + name.replace(" ", "-")} if key else {}
    with stack.client() as client:
        return client.post("/orders", json=an_order(notes=name), headers=headers)


def placed(stack: Stack, *names: str, key: bool = True) -> dict[str, str]:
    """Upstream order ids by name, each of an order that was placed and answered 201."""
    answers = {name: send(stack, name, key=key) for name in names}
    assert {answer.status_code for answer in answers.values()} <= {201}, answers
    return {name: answer.json()["orderId"] for name, answer in answers.items()}


def back_up(stack: Stack) -> Path:
    file = stack.folder / "backup.db"
    done = program(stack).within("db", "backup", str(file))
    assert done.status == 0, done
    return file


def restore(stack: Stack, file: Path) -> None:
    done = program(stack).within("db", "restore", str(file))
    assert done.status == 0, done


def rejoin(stack: Stack) -> dict[str, Any]:
    done = program(stack).within("db", "rejoin", "--json")
    assert done.status == 0, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def reasons(stack: Stack) -> list[str]:
    answer = httpx.get(stack.tenant_url + "/readyz", trust_env=False)
    assert (answer.status_code == 200) == (not answer.json().get("reasons")), answer.text
    return list(answer.json().get("reasons", []))


def posts(sandbox: SandboxThread) -> int:
    return len([call for call in sandbox.calls if call.method == "POST"])


def nothing_goes_out(stack: Stack, sandbox: SandboxThread, *names: str) -> None:
    """The quarantine, as tenants see it: known or new, with a key or without, nothing is sent, nothing claimed, and
    nothing told of what the ledger believes.
    """
    before, listed = posts(sandbox), program(stack).within("orders", "list", "--json").out
    for name in (*names, "never seen"):
        for key in (True, False):
            answer = send(stack, name, key=key)
            found = problem(answer, 503, "ledger-unavailable")
            assert (found["outcome"], found["retryable"]) == ("not_placed", True)
            assert "ordergate db rejoin" in found["detail"] and "orderId" not in found
            assert int(answer.headers["retry-after"]) >= 1
    for path in ("/orders", f"/orders/{UUID(int=0)}", *(f"/orders/{row['orderId']}" for row in json.loads(listed))):
        with stack.client() as client:
            looked = client.get(path)
        assert "ordergate db rejoin" in problem(looked, 503, "ledger-unavailable")["detail"], "it may be untrue"
        assert int(looked.headers["retry-after"]) >= 1
    operators_look_only(stack, json.loads(listed))
    assert reasons(stack) == ["rejoin needed"]
    assert posts(sandbox) == before
    assert program(stack).within("orders", "list", "--json").out == listed


def operators_look_only(stack: Stack, listed: list[dict[str, Any]]) -> None:
    """The quarantine, as operators see it over HTTP: the ledger is shown as it is, and no order changes."""
    headers = {"authorization": f"Bearer {stack.admin_token}"}
    with httpx.Client(base_url=stack.admin_url, headers=headers, timeout=30, trust_env=False) as operator:
        assert operator.get("/admin/orders?limit=100").json()["orders"] == listed
        word = {"notPlaced": True, "reason": "a word"}
        changes = [operator.post(f"/admin/orders/{row['orderId']}/resolve", json=word) for row in listed]
        for refused in (operator.post("/admin/orders/reconcile", json={}), *changes):
            assert "db rejoin" in problem(refused, 409, "conflict")["detail"]


def orders_are_taken(stack: Stack) -> None:
    wait_until(lambda: not reasons(stack), "ready again")


def each_is_there_once(stack: Stack, sandbox: SandboxThread, known: dict[str, str], *, key: bool = True) -> None:
    """Repeats replay the very order that was placed before, and OfferGrid holds each once."""
    for name, upstream_order_id in known.items():
        answer = send(stack, name, key=key)
        assert answer.status_code == 201, answer.text
        assert answer.headers["idempotent-replayed"] == "true"
        assert ("ordergate-matched-by" in answer.headers) is not key
        assert answer.json()["orderId"] == upstream_order_id
    held = Counter((order.metadata or {}).get("gatewayOrderId") for order in sandbox.orders)
    assert set(held.values()) <= {1}
    assert len(sandbox.orders) == len({order.order_id for order in sandbox.orders})
    notes = Counter(order.data["notes"] for order in sandbox.orders)
    assert all(notes[name] == 1 for name in known)


def test_what_was_placed_after_the_backup_is_known_again(stack: Stack, sandbox: SandboxThread) -> None:
    known = placed(stack, "before")
    file = back_up(stack)
    after = placed(stack, "after", "later")
    bodies = placed(stack, "by body", key=False)
    stack.process.kill()
    restore(stack, file)
    stack.start()
    nothing_goes_out(stack, sandbox, "before", "after")
    listed = program(stack).within("orders", "list", "--json").value
    assert [row["upstreamOrderId"] for row in listed] == [known["before"]], "operators see what there is"
    done = rejoin(stack)
    assert [(row["was"], row["way"]) for row in done["orders"]] == [(None, "inserted")] * 3
    (team,) = done["teams"]
    assert (team["team"], team["listed"], team["known"], team["inserted"], team["foreign"]) == ("team", 4, 1, 3, 0)
    orders_are_taken(stack)
    before = posts(sandbox)
    each_is_there_once(stack, sandbox, {**known, **after})
    each_is_there_once(stack, sandbox, bodies, key=False)
    assert posts(sandbox) == before
    assert set(placed(stack, "new")) == {"new"} and posts(sandbox) == before + 1
    assert program(stack).within("db", "check", "--json").value["ok"] is True


def test_a_key_with_another_body_is_still_refused(stack: Stack, sandbox: SandboxThread) -> None:
    file = back_up(stack)
    placed(stack, "one")
    stack.process.kill()
    restore(stack, file)
    rejoin(stack)
    stack.start()
    with stack.client() as client:
        answer = client.post("/orders", json=an_order(notes="two"), headers={"idempotency-key": "key-one"})
    problem(answer, 422, "idempotency-key-reused")
    assert len(sandbox.orders) == 1


@pytest.mark.parametrize("backed_up", ["before", "between", "after"])
def test_of_two_tenants_that_had_one_name_none_gets_the_others_orders(
    stack: Stack, sandbox: SandboxThread, backed_up: str
) -> None:
    """Tenant `shop` is removed and made anew; the same key and body under the same name are two orders, and stay so."""
    file = back_up(stack) if backed_up == "before" else None
    first = placed(stack, "one")
    with stack.administration() as admin:
        admin.remove_tenant("shop")
        file = file or (back_up(stack) if backed_up == "between" else None)
        admin.add_tenant(NewTenant(name="shop", team="team"))
        stack.token = admin.issue_token("shop").token.text()
    wait_until(lambda: send(stack, "known").status_code == 201, "the new token is known")
    second = placed(stack, "one")
    assert first["one"] != second["one"] and len(sandbox.orders) == 3
    file = file or back_up(stack)
    stack.process.kill()
    restore(stack, file)
    done = rejoin(stack)
    assert done["tenantsMade"] == {"before": ["shop-2"], "between": ["shop"], "after": []}[backed_up]
    with stack.administration() as admin:
        for name in done["tenantsMade"]:
            admin.set_tenant_state(name, "active")
            stack.token = admin.issue_token(name).token.text()
    stack.start()
    before = posts(sandbox)
    each_is_there_once_of(stack, second)
    with stack.client() as client:
        (_, held) = (row["upstreamOrderId"] for row in client.get("/orders").json()["orders"])
        assert {row["tenant"] for row in client.get("/orders").json()["orders"]} == {"shop"}
    assert first["one"] != held and posts(sandbox) == before
    assert program(stack).within("db", "check", "--json").value["ok"] is True


def each_is_there_once_of(stack: Stack, known: dict[str, str]) -> None:
    for name, upstream_order_id in known.items():
        answer = send(stack, name)
        assert (answer.status_code, answer.headers["idempotent-replayed"]) == (201, "true"), answer.text
        assert answer.json()["orderId"] == upstream_order_id


def test_under_load_no_order_is_placed_twice(stack: Stack, sandbox: SandboxThread) -> None:
    """Backed up and killed while orders come in, restored; then all of the orders are repeated."""
    names = [f"order {number}" for number in range(60)]
    told: dict[str, str] = {}
    half, dead = threading.Event(), threading.Event()

    def order() -> None:
        with stack.client() as client, suppress(httpx.TransportError):
            for name in names:
                headers = {"idempotency-key": "key-" + name.replace(" ", "-")}
                answer = client.post("/orders", json=an_order(notes=name), headers=headers)
                if answer.status_code == 201:
                    told[name] = answer.json()["orderId"]
                if len(told) == 15:
                    half.set()
                if len(told) >= 45:
                    dead.set()

    ordering = threading.Thread(target=order)
    ordering.start()
    half.wait(60)
    file = back_up(stack)
    dead.wait(60)
    stack.process.kill()
    ordering.join(60)
    restore(stack, file)
    stack.start()
    rejoin(stack)
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, told)
    for name in names:
        if name not in told:
            assert send(stack, name).status_code in (201, 502)
    notes = Counter(order.data["notes"] for order in sandbox.orders)
    assert set(notes.values()) == {1}


def test_an_order_that_was_on_its_way_is_waited_for(sandbox: SandboxThread) -> None:
    with a_stack(sandbox, reconcile__settle_after_s=2.5) as stack:
        file = back_up(stack)
        sandbox.set_fault("place_late", after_s=1.5)
        asking = threading.Thread(target=lambda: _hang_up(stack, "late"))
        asking.start()
        wait_until(lambda: posts(sandbox) == 1, "sent")
        stack.process.kill()
        asking.join(60)
        assert not sandbox.orders
        restore(stack, file)
        stack.start()
        assert [row["way"] for row in rejoin(stack)["orders"]] == ["inserted"]
        orders_are_taken(stack)
        each_is_there_once(stack, sandbox, {"late": sandbox.orders[0].order_id})
        assert posts(sandbox) == 1


def _hang_up(stack: Stack, name: str) -> None:
    with suppress(httpx.TransportError):
        send(stack, name)


def test_an_order_in_flight_in_the_backup_is_placed_by_the_rejoin(stack: Stack, sandbox: SandboxThread) -> None:
    sandbox.set_fault("place_then_hang")
    asking = threading.Thread(target=lambda: _hang_up(stack, "cut off"))
    asking.start()
    wait_until(lambda: len(sandbox.orders) == 1, "taken")
    file = back_up(stack)
    stack.process.kill()
    asking.join(60)
    restore(stack, file)
    stack.start()
    beats(stack, 3)
    (row,) = program(stack).within("orders", "list", "--json").value
    assert row["outcome"] == "in_flight", "neither recovered nor looked for"
    assert [(row["was"], row["way"]) for row in rejoin(stack)["orders"]] == [("in_flight", "placed")]
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, {"cut off": sandbox.orders[0].order_id})


def test_what_waited_in_the_backup_is_called_not_placed_after_the_rejoin_only(sandbox: SandboxThread) -> None:
    """It may have been sent since: until the rejoin has looked, nobody says that it was not."""
    patient = {"upstream__timeout_s": 60, "admission__max_wait_s": 60, "shutdown__drain_s": 150}
    with a_stack(sandbox, upstream__max_in_flight=1, **patient) as stack:
        sandbox.set_fault("place_then_hang", count=1)
        waiting = [threading.Thread(target=_hang_up, args=(stack, name)) for name in ("first", "second")]
        for thread in waiting:
            thread.start()
            wait_until(lambda: posts(sandbox) == 1, "the first is under way")
        wait_until(lambda: _outcomes(stack) == ["in_flight", "queued"], "one waits")
        file = back_up(stack)
        stack.process.kill()
        for thread in waiting:
            thread.join(60)
        restore(stack, file)
        stack.start()
        beats(stack, 3)
        assert _outcomes(stack) == ["in_flight", "queued"]
        nothing_goes_out(stack, sandbox, "first", "second")
        done = program(stack)("orders", "resolve", _listed(stack)["in_flight"], "--not-placed", "--reason", "x")
        assert done.status == 4 and "ordergate db rejoin" in done.err
        assert [row["was"] for row in rejoin(stack)["orders"]] == ["in_flight"]
        orders_are_taken(stack)
        wait_until(lambda: _outcomes(stack) == ["not_placed", "placed"], "taken over")


def _outcomes(stack: Stack) -> list[str]:
    return sorted(row["outcome"] for row in program(stack).within("orders", "list", "--json").value)


def _listed(stack: Stack) -> dict[str, str]:
    """Order ids by outcome."""
    return {row["outcome"]: row["orderId"] for row in program(stack).within("orders", "list", "--json").value}


def test_in_quarantine_unknown_orders_are_not_looked_for(sandbox: SandboxThread) -> None:
    with a_stack(sandbox, reconcile__interval_s=0.1) as stack:
        file = back_up(stack)
        stack.process.stop()
        restore(stack, file)
        calls = len(sandbox.calls)
        stack.start()
        nothing_goes_out(stack, sandbox)
        assert len(sandbox.calls) == calls


def old_copy(stack: Stack) -> Path:
    """A copy of the ledger made by hand, while nobody has it open."""
    assert stack.process.stop() == 0
    wal = stack.folder / "var/ordergate.db-wal"
    assert not wal.exists() or not wal.stat().st_size
    return Path(shutil.copy(ledger_file(stack), stack.folder / "copy.db"))


def beats(stack: Stack, more: int = 1) -> int:
    """Waits for beats to be marked; the mark's number."""

    def marked() -> int:
        return int(json.loads(mark_file(stack).read_text())["beat"])

    wait_until(mark_file(stack).exists, "a mark")
    before = marked()
    wait_until(lambda: marked() >= before + more, "beats")
    return marked()


def test_an_old_copy_put_back_by_hand_is_noticed_and_rejoined(stack: Stack, sandbox: SandboxThread) -> None:
    copy = old_copy(stack)
    stack.start()
    known = placed(stack, "after")
    beats(stack)
    assert stack.process.stop() == 0
    shutil.copy(copy, ledger_file(stack))
    stack.start()
    nothing_goes_out(stack, sandbox, "after")
    rejoin(stack)
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, known)
    stack.restart()
    assert reasons(stack) == [], "known to be old once is enough"


def test_a_quarantine_outlives_the_process_and_the_mark(stack: Stack, sandbox: SandboxThread) -> None:
    copy = old_copy(stack)
    stack.start()
    beats(stack)
    stack.process.stop()
    shutil.copy(copy, ledger_file(stack))
    stack.start()
    assert reasons(stack) == ["rejoin needed"]
    stack.process.kill()
    mark_file(stack).unlink()
    stack.start()
    nothing_goes_out(stack, sandbox)
    beats(stack)


def test_a_missing_mark_is_made_and_a_newer_ledger_is_fine(stack: Stack, sandbox: SandboxThread) -> None:
    first = beats(stack)
    old = mark_file(stack).read_bytes()
    assert mark_file(stack).stat().st_mode & 0o777 == 0o600
    stack.process.kill()
    mark_file(stack).unlink()
    stack.start()
    assert beats(stack) > first
    assert reasons(stack) == []
    stack.process.kill()
    mark_file(stack).write_bytes(old)
    stack.start()
    assert reasons(stack) == []
    assert placed(stack, "as ever")


def test_a_mark_ahead_or_of_another_ledger_is_a_quarantine(stack: Stack, sandbox: SandboxThread) -> None:
    beats(stack)
    for change in ({"beat": 10**9}, {"ledger": "another"}):
        stack.process.stop()
        mark = json.loads(mark_file(stack).read_text())
        mark_file(stack).write_text(json.dumps({**mark, **change}))
        stack.start()
        nothing_goes_out(stack, sandbox)
        rejoin(stack)
        orders_are_taken(stack)


def test_a_backup_copied_into_place_by_hand_is_known_for_what_it_is(stack: Stack, sandbox: SandboxThread) -> None:
    file = back_up(stack)
    known = placed(stack, "after")
    stack.process.stop()
    for ending in ("", "-wal", "-shm", ".mark"):
        (stack.folder / f"var/ordergate.db{ending}").unlink(missing_ok=True)
    shutil.copy(file, ledger_file(stack))
    stack.start()
    nothing_goes_out(stack, sandbox, "after")
    rejoin(stack)
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, known)


def refuses(stack: Stack, said: str) -> None:
    done = program(stack).within("db", "rejoin")
    assert done.status == 1, done
    assert done.err.splitlines()[-1].startswith("team team: ") and said in done.err.splitlines()[-1]


FAULTS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"kind": "status", "code": 500, "match": {"method": "GET"}}, "OfferGrid answers 500"),
    ({"kind": "garbage", "match": {"method": "GET"}}, "could not be read"),
    ({"kind": "list_other_account"}, "which the ledger knows as placed"),
    ({"kind": "list_drop_metadata"}, "which the ledger knows as placed"),
    ({"kind": "list_without", "index": 0}, "which the ledger knows as placed"),
    ({"kind": "list_page", "size": 1, "marker": "total"}, "not all of its orders"),
    ({"kind": "list_stale", "after_s": 3600}, "which the ledger knows as placed"),
)


def test_a_listing_in_doubt_keeps_the_quarantine(stack: Stack, sandbox: SandboxThread) -> None:
    known = placed(stack, "old", "before")
    file = back_up(stack)
    stack.process.kill()
    restore(stack, file)
    stack.start()
    for fault, said in FAULTS:
        sandbox.set_fault(**fault, count=0)
        refuses(stack, said)
        sandbox.clear_faults()
    nothing_goes_out(stack, sandbox, "before")
    rejoin(stack)
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, known)


def test_a_listing_in_pages_that_can_be_followed_is_read_whole(stack: Stack, sandbox: SandboxThread) -> None:
    file = back_up(stack)
    known = placed(stack, *"abcde")
    stack.process.kill()
    restore(stack, file)
    sandbox.set_fault("list_page", size=2, marker="link", count=0)
    assert len(rejoin(stack)["orders"]) == 5
    stack.start()
    each_is_there_once(stack, sandbox, known)


def test_a_key_that_offergrid_revoked_keeps_the_quarantine(stack: Stack, sandbox: SandboxThread) -> None:
    with stack.administration() as admin:
        admin.add_team("second")
        admin.add_key("second", Secret("sandbox-revoked-1"))
    file = back_up(stack)
    stack.process.stop()
    restore(stack, file)
    done = program(stack).within("db", "rejoin")
    assert done.status == 1 and "team second: OfferGrid answers 401" in done.err.splitlines()[-1]
    stack.start()
    nothing_goes_out(stack, sandbox)


def audited(stack: Stack) -> list[tuple[str, str, dict[str, Any]]]:
    """Who, what, and what about it."""
    connection = apsw.Connection(str(ledger_file(stack)), flags=apsw.SQLITE_OPEN_READONLY)
    rows: list[Any] = connection.execute("SELECT who, action, change FROM audit ORDER BY number").fetchall()
    connection.close()
    return [(who, action, json.loads(change)) for who, action, change in rows]


def test_a_team_that_cannot_be_read_keeps_the_quarantine_but_for_an_operators_word(
    stack: Stack, sandbox: SandboxThread
) -> None:
    """It had a key after the backup, and what was placed with that nobody can tell."""
    with stack.administration() as admin:
        admin.add_team("second")
    known = placed(stack, "before")
    file = back_up(stack)
    stack.process.stop()
    restore(stack, file)
    done = program(stack).within("db", "rejoin")
    assert done.status == 1 and "team second: has no usable key" in done.err.splitlines()[-1]
    for arguments, said in (
        (("--without", "second", "--without", "third"), "there is no team third"),
        (("--without", "team", "--without", "second"), "team team has a usable key"),
    ):
        done = program(stack).within("db", "rejoin", *arguments)
        assert done.status == 4 and said in done.err
    stack.start()
    nothing_goes_out(stack, sandbox, "before")
    done = program(stack).within("db", "rejoin", "--without", "second", "--json")
    assert done.status == 0 and done.err.startswith("team second: is not read"), "told before anything is done"
    assert json.loads(done.out)["unread"] == ["second"]
    assert [team["team"] for team in json.loads(done.out)["teams"]] == ["team"]
    assert audited(stack)[-1][1:] == (
        "db rejoin", {"known": 1, "tenantsMade": [], "unread": ["second"]}
    )  # fmt: skip
    orders_are_taken(stack)
    each_is_there_once(stack, sandbox, known)


def test_a_team_that_is_added_while_the_others_are_read_is_read_too(sandbox: SandboxThread) -> None:
    with a_stack(sandbox, reconcile__settle_after_s=8) as stack:
        file = back_up(stack)
        stack.process.kill()
        restore(stack, file)
        with program(stack).started("db", "rejoin") as command:
            assert command.stderr is not None
            while not command.stderr.readline().startswith("waiting"):
                assert command.poll() is None
            with stack.administration() as admin:
                admin.add_team("second")
            said = command.stderr.read()
            assert command.wait(60) == 4 and said.endswith(
                "a team was added meanwhile and not read: rejoin once more\n"
            )
        assert "team second: has no usable key" in program(stack).within("db", "rejoin").err


def test_the_audit_log_names_the_systems_user_whatever_the_environment_says(stack: Stack) -> None:
    file = back_up(stack)
    stack.process.kill()
    liar = {"LOGNAME": "liar", "USER": "liar", "LNAME": "liar", "USERNAME": "liar"}
    assert program(stack)("db", "restore", str(file), **liar).status == 0
    assert program(stack)("db", "rejoin", **liar).status == 0
    me = pwd.getpwuid(os.getuid()).pw_name
    assert [(who, action) for who, action, _ in audited(stack)][-2:] == [(me, "db restore"), (me, "db rejoin")]


def test_a_rejoin_that_is_killed_enters_nothing(sandbox: SandboxThread) -> None:
    with a_stack(sandbox, reconcile__settle_after_s=6) as stack:
        file = back_up(stack)
        known = placed(stack, "one", "two")
        stack.process.kill()
        for moment in ("reading", "waiting"):
            restore(stack, file)
            with program(stack).started("db", "rejoin") as command:
                assert command.stderr is not None
                while not command.stderr.readline().startswith(moment):
                    assert command.poll() is None
                command.send_signal(signal.SIGKILL)
            assert program(stack).within("orders", "list", "--json").value == []
        stack.start()
        nothing_goes_out(stack, sandbox)
        assert len(rejoin(stack)["orders"]) == 2
        orders_are_taken(stack)
        each_is_there_once(stack, sandbox, known)


def test_rejoining_again_and_without_need_does_nothing(stack: Stack, sandbox: SandboxThread) -> None:
    file = back_up(stack)
    placed(stack, "after")
    stack.process.kill()
    restore(stack, file)
    assert len(rejoin(stack)["orders"]) == 1
    again = rejoin(stack)
    assert (again["rejoined"], again["orders"]) == (False, [])
    stack.start()
    assert reasons(stack) == []
    assert "nothing to do" in program(stack).within("db", "rejoin").out


@pytest.mark.parametrize("made_again", ["by the rejoin", "by hand"])
def test_orders_of_a_tenant_made_after_the_backup_are_kept_for_it(
    stack: Stack, sandbox: SandboxThread, made_again: str
) -> None:
    file = back_up(stack)
    for name in ("idle", "idle-too"):  # so that the tenant which is made again does not get the id that it had
        stack.new_tenant(name)
    token = stack.new_tenant("late")
    headers = {"authorization": f"Bearer {token}"}

    def order(key: str | None = "k") -> httpx.Response:
        keyed = {} if key is None else {"idempotency-key": key}
        body = an_order(notes="with a key" if key else "by its body")
        return httpx.post(
            stack.tenant_url + "/orders", json=body, headers={**headers, **keyed}, trust_env=False, timeout=30
        )

    wait_until(lambda: order().status_code == 201, "the new tenant's order")
    assert order(None).status_code == 201
    stack.process.kill()
    restore(stack, file)
    by_hand = made_again == "by hand"
    if by_hand:
        program(stack)("tenant", "add", "late", "--team", "team")
    done = rejoin(stack)
    assert done["tenantsMade"] == ([] if by_hand else ["late"])
    stack.start()
    assert order().status_code == 401, "its token is gone with the rest"
    state = program(stack)("tenant", "show", "late", "--json").value["state"]
    assert state == ("active" if by_hand else "suspended")
    program(stack)("tenant", "resume", "late")
    headers["authorization"] = f"Bearer {program(stack)('token', 'issue', 'late', '--json').value['token']}"
    wait_until(lambda: order().status_code == 201, "known again")
    assert order("k").headers["idempotent-replayed"] == "true"
    assert order(None).headers["ordergate-matched-by"] == "body"
    assert len(sandbox.orders) == 2


def test_a_restore_is_refused_while_a_gateway_lives(stack: Stack) -> None:
    back_up(stack)
    for number in (signal.SIGCONT, signal.SIGSTOP):  # one that is merely stopped may still send
        stack.process.signal(number)
        done = program(stack).within("db", "restore", str(stack.folder / "backup.db"))
        assert done.status == 4 and "stop it first" in done.err and done.err.count("\n") == 1
    stack.process.signal(signal.SIGCONT)
    assert placed(stack, "as ever") and reasons(stack) == []
    assert not list((stack.folder / "var").glob("*.replaced-*"))
