"""The error table's rows for orders that were not taken, because something was short: nothing of them was sent."""

import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import apsw
import httpx
import pytest

from tests.accept.raw import RawConnection, request
from tests.accept.world import World, a_world, about_order, problem, refused, wait_until
from tests.support.stack import an_order, running_stack


def test_503_draining() -> None:
    """What is in flight is finished; a request that is still coming in when draining begins is not taken."""
    with a_world() as world, ThreadPoolExecutor(1) as pool, RawConnection(world.stack.tenant_url) as late:
        world.sandbox.set_fault("slow", after_s=60)
        first = pool.submit(world.order)
        wait_until(lambda: len(world.calls) == 1, "the first order at the sandbox")
        data = request(token=world.stack.token)
        late.send(data[:-1])
        wait_until(lambda: _in_flight(world) == 2, "both requests in hand")
        world.stack.process.signal(signal.SIGTERM)
        world.stack.process.wait_for("draining")
        late.send(data[-1:])
        answer = late.answer()
        about_order(world, answer, 503, "draining", "not_placed", known=False)
        assert late.is_closed()
        world.sandbox.clear_faults()
        assert first.result().status_code == 201
        assert world.stack.process.wait() == 0
        assert len(world.placed) == 1


def _in_flight(world: World) -> int:
    text = httpx.get(f"{world.stack.admin_url}/metrics", trust_env=False).text
    found = re.search(r'ordergate_http_requests_in_flight\{listener="tenant"\} (\d+)', text)
    return int(found[1]) if found else -1


def test_503_overloaded(hasty: World) -> None:
    """One order may be in flight and one may wait, 0.3 s: neither that one nor a third is sent."""
    hasty.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: hasty.order(), range(5)))
    hasty.sandbox.clear_faults()
    told = [answer for answer in answers if answer.status_code == 503]
    assert len(told) == 4
    waited = [answer for answer in told if "ordergate-order-id" in answer.headers]
    assert len(waited) == 1, "the one that waited was claimed, the others were not"
    for answer in told:
        about_order(hasty, answer, 503, "overloaded", "not_placed", known=answer in waited)
    # The first one ran into its own 0.8 s.
    assert [answer.status_code for answer in answers if answer not in told] == [504]
    assert len(hasty.calls) == 1
    assert hasty.order().status_code == 201


def test_503_overloaded_at_once_where_nobody_may_wait() -> None:
    with a_world(upstream__max_in_flight=1, admission__max_waiting=0) as world, ThreadPoolExecutor(1) as pool:
        world.sandbox.set_fault("slow", after_s=60)
        first = pool.submit(world.order)
        wait_until(lambda: len(world.calls) == 1, "the first order at the sandbox")
        about_order(world, world.order("k"), 503, "overloaded", "not_placed", known=False)
        world.sandbox.clear_faults()
        assert first.result().status_code == 201
        assert world.order("k").status_code == 201, "the key was not bound"
        assert len(world.placed) == 2


@contextmanager
def _locked(world: World) -> Iterator[None]:
    with _written(world) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_503_ledger_unavailable(world: World) -> None:
    before = world.order("before")
    with _locked(world):
        about_order(world, world.order("locked"), 503, "ledger-unavailable", "not_placed", known=False)
        assert world.ask("GET", "/healthz").status_code == 200
        # Looking needs no lock.
        assert world.shown(before.headers["ordergate-order-id"])["outcome"] == "placed"
    answer = world.order("locked")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    assert len(world.placed) == 2


def test_503_ledger_unavailable_to_who_looks() -> None:
    """The ledger's file cannot be read for a while, and one order's record not at all: neither is a defect."""
    with a_world() as world, _written(world) as ledger:
        damaged, whole = (world.order().headers["ordergate-order-id"] for _ in range(2))
        looks = ("/orders", f"/orders/{whole}", f"/orders/{damaged}")

        def told() -> list[int]:
            answers = [world.ask("GET", path) for path in looks]
            for answer in answers:
                if answer.status_code != 200:
                    refused(answer, 503, "ledger-unavailable")
                    assert int(answer.headers["retry-after"]) >= 1
            return [answer.status_code for answer in answers]

        ledger.execute("ALTER TABLE orders RENAME TO elsewhere")
        assert told() == [503, 503, 503]
        ledger.execute("ALTER TABLE elsewhere RENAME TO orders")
        assert told() == [200, 200, 200]
        (sealed,) = ledger.execute("SELECT sealed_response FROM orders WHERE order_id = ?", (damaged,)).fetchall()
        ledger.execute("UPDATE orders SET sealed_response = x'00' WHERE order_id = ?", (damaged,))
        assert told() == [503, 200, 503]
        ledger.execute("UPDATE orders SET sealed_response = ? WHERE order_id = ?", (*sealed, damaged))
        assert told() == [200, 200, 200]
        said = [line for line in world.stack.process.log if line.get("where") == "read"]
        assert {(line["event"], line["level"]) for line in said} == {("ledger", "error")}
        assert {line["reason"] for line in said} == {"LedgerError", "SealBroken"}


@contextmanager
def _written(world: World) -> Iterator[apsw.Connection]:
    """Another writer of the ledger's file."""
    connection = apsw.Connection(str(world.stack.settings.storage.sqlite_path))
    try:
        connection.set_busy_timeout(10_000)
        yield connection
    finally:
        connection.close()


def test_502_outcome_unknown_where_the_answer_cannot_be_written_down(world: World) -> None:
    """The ledger is locked between sending and settling: what OfferGrid said is not told before it is durable."""
    world.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.order, "unwritten", notes="unwritten")
        wait_until(lambda: len(world.calls) == 1, "the order at the sandbox")
        with _locked(world):
            world.sandbox.clear_faults()
            answer = first.result()
    found = problem(answer, 502, "outcome-unknown")
    assert (found["outcome"], found["retryable"]) == ("unknown", True)
    assert int(answer.headers["retry-after"]) >= 1
    # Asked again it is told what the ledger knows by now, and nothing is sent.
    again = world.order("unwritten", notes="unwritten")
    assert again.status_code in (201, 409, 502)
    assert again.status_code != 201 or again.headers["idempotent-replayed"] == "true"
    assert len(world.placed) == 1


def test_readiness_follows_the_ledger() -> None:
    with a_world() as world:
        assert world.ask("GET", "/readyz").json() == {"status": "ready"}
        with _locked(world):
            wait_until(lambda: world.ask("GET", "/readyz").status_code == 503, "not ready")
            for answer in (world.ask("GET", "/readyz"), world.admin("GET", "/readyz", token="")):
                assert answer.status_code == 503
                assert answer.json()["status"] == "not ready"
                assert ["ledger write" in reason for reason in answer.json()["reasons"]] == [True]
            assert world.ask("GET", "/healthz").json() == {"status": "ok"}
        wait_until(lambda: world.ask("GET", "/readyz").status_code == 200, "ready again by itself")
        assert world.order().status_code == 201


def test_readiness_needs_room_on_the_disk() -> None:
    with a_world(storage__min_free_bytes=1 << 50) as world:
        answer = world.ask("GET", "/readyz")
        assert answer.status_code == 503
        assert "bytes free" in " ".join(answer.json()["reasons"])
        assert world.order().status_code == 201, "orders are taken as long as they can be written down"


def test_readiness_does_not_ask_offergrid(world: World) -> None:
    world.sandbox.set_fault("refuse", after_s=0.5)
    assert world.ask("GET", "/readyz").status_code == 200
    wait_until(lambda: world.order().status_code == 201, "reachable again")


def test_503_upstream_unavailable_refused() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and not listening
        _unreachable(nobody, upstream__timeout_s=2)


def test_503_upstream_unavailable_blackhole() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Its line is full: further connections are neither taken nor refused.
        with _connections(full.getsockname(), 4):
            _unreachable(full, upstream__timeout_s=1, upstream__connect_timeout_s=0.2)


def test_503_upstream_unavailable_no_such_name() -> None:
    with running_stack(upstream_base_url="https://offergrid.invalid", upstream__timeout_s=2) as stack:
        with stack.client() as client:
            answer = client.post("/orders", json=an_order())
        found = problem(answer, 503, "upstream-unavailable")
        assert (found["outcome"], found["retryable"]) == ("not_placed", True)


def _unreachable(sock: socket.socket, **settings: object) -> None:
    host, port = sock.getsockname()
    with running_stack(upstream_base_url=f"http://{host}:{port}", **settings) as stack, stack.client() as client:
        answer = client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})
        found = problem(answer, 503, "upstream-unavailable")
        assert (found["outcome"], found["retryable"]) == ("not_placed", True)
        assert int(answer.headers["retry-after"]) >= 1
        shown = client.get(answer.headers["location"]).json()
        assert (shown["outcome"], shown["httpStatus"]) == ("not_placed", 503)
        assert {attempt["evidence"] for attempt in shown["attempts"]} == {"not_sent"}
        # The same key again is the same order, tried again.
        again = client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})
        assert problem(again, 503, "upstream-unavailable")["orderId"] == found["orderId"]


@contextmanager
def _connections(address: tuple[str, int], count: int) -> Iterator[None]:
    """Connections that nobody accepts; those beyond the line's end stay half made."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.setblocking(False)
            one.connect_ex(address)
        yield
    finally:
        for one in sockets:
            one.close()


@pytest.mark.parametrize(("tenant", "key"), [
    ("revoked", "sandbox-revoked-key"), ("provider", "sandbox-provider-key"), ("keyless", None),
])  # fmt: skip
def test_502_upstream_credentials(world: World, tenant: str, key: str | None) -> None:
    token = world.token_of(tenant, team=f"{tenant}-team", key=key)
    answer = world.order("k", token=token)
    found = about_order(
        world, answer, 502, "upstream-credentials", "not_placed", known=key is not None, token=token
    )
    assert ("upstream" in found) == (key is not None)
    assert len(world.calls) == (0 if key is None else 1), "one call, and no other"
    assert not world.placed


def test_503_upstream_unavailable_then_placed_within_the_same_request(world: World) -> None:
    """The port is closed and opened again while there is time: the tenant only sees its order placed."""
    world.sandbox.set_fault("refuse", after_s=0.1)
    answer = world.order()
    assert answer.status_code in (201, 503)
    shown = world.shown(answer.headers["ordergate-order-id"])
    assert [attempt["evidence"] for attempt in shown["attempts"]][:-1] == ["not_sent"] * (
        len(shown["attempts"]) - 1
    )
    wait_until(lambda: world.order().status_code == 201, "reachable again")


def test_shutting_down_twice_is_shutting_down() -> None:
    with a_world() as world:
        world.stack.process.signal(signal.SIGTERM)
        threading.Event().wait(0)
        world.stack.process.signal(signal.SIGTERM)
        assert world.stack.process.wait() == 0
