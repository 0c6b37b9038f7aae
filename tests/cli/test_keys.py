"""Rotating upstream keys on a running gateway: one after the other in one account, and into another account."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from gateway.sandbox import SandboxThread
from tests.accept.world import wait_until
from tests.cli.conftest import Done, Program
from tests.support.stack import UPSTREAM_KEY, Stack, an_order, running_stack

SECOND: Final = "sandbox-key-second-canary"
ELSEWHERE: Final = "sandbox-key-elsewhere-canary"
DEAD: Final = "sandbox-revoked-canary"
KEYS: Final = {UPSTREAM_KEY: "one", SECOND: "one", ELSEWHERE: "two"}
SOON: Final[dict[str, Any]] = {
    "reconcile__settle_after_s": 0.5,
    "reconcile__interval_s": 0.2,
    "budget__reserved_per_minute": 1000,
}


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    """An OfferGrid with two accounts: two keys of the first, one of the second; others are refused."""
    with SandboxThread(keys=KEYS, per_minute=0, per_hour=0) as running:
        yield running


@pytest.fixture
def stack(sandbox: SandboxThread) -> Iterator[Stack]:
    with running_stack(upstream_base_url=sandbox.base_url, **SOON) as running:
        yield running


def command(stack: Stack, *args: str, typed: str = "") -> Done:
    done = Program(stack.folder, stack.environ).within(*args, typed=typed)
    assert "canary" not in done.out + done.err
    return done


def added(stack: Stack, key: str) -> str:
    assert command(stack, "key", "add", "team", typed=key).status == 0
    return str(keys(stack)[-1]["keyId"])


def keys(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = command(stack, "key", "list", "team", "--json").value
    return found


def states(stack: Stack) -> list[str]:
    return [key["state"] for key in keys(stack)]


def order(stack: Stack, name: str) -> httpx.Response:
    with stack.client() as client:
        return client.post("/orders", json=an_order(notes=name), headers={"idempotency-key": name})


def used(sandbox: SandboxThread) -> str:
    """The key that the newest order was sent with."""
    posts = [call for call in sandbox.calls if call.method == "POST"]
    return next(value for name, value in posts[-1].headers if name.lower() == "x-api-key")


def is_used(stack: Stack, sandbox: SandboxThread, key: str) -> None:
    """From some moment on, and for good."""
    numbers = iter(range(1_000_000))
    wait_until(
        lambda: order(stack, f"{key}-{next(numbers)}").status_code == 201 and used(sandbox) == key,
        "the key is used",
    )
    for number in range(3):
        assert order(stack, f"{key}-again-{number}").status_code == 201 and used(sandbox) == key


def unknown(stack: Stack, sandbox: SandboxThread, name: str, fault: str) -> str:
    sandbox.set_fault(fault)
    answer = order(stack, name)
    assert answer.json()["outcome"] == "unknown", answer.text
    return str(answer.headers["ordergate-order-id"])


def test_a_key_is_rotated_without_an_order_refused(stack: Stack, sandbox: SandboxThread) -> None:
    is_used(stack, sandbox, UPSTREAM_KEY)
    second = added(stack, SECOND)
    assert states(stack) == ["active", "standby"]
    verified = command(stack, "key", "verify", "team", second)
    assert (verified.status, verified.out) == (0, f"OfferGrid accepts {second}; it is standby\n")
    done = command(stack, "key", "activate", "team", second, "--json")
    assert done.value == {"team": "team", "keyId": second, "state": "active"}
    assert states(stack) == ["retiring", "active"] and all(key["sameAccount"] for key in keys(stack))
    is_used(stack, sandbox, SECOND)
    first = keys(stack)[0]["keyId"]
    done = command(stack, "key", "revoke", "team", first)
    assert done.status == 0 and f"are sent with {second}" in done.out
    assert states(stack) == ["revoked", "active"]
    is_used(stack, sandbox, SECOND)
    calls = len(sandbox.calls)
    for verb in ("verify", "activate"):
        refused = command(stack, "key", verb, "team", first)
        assert (refused.status, refused.out) == (4, "") and "revoked" in refused.err
    assert all(UPSTREAM_KEY not in dict(call.headers).values() for call in sandbox.calls[calls:])


def test_a_key_that_offergrid_refuses_is_not_activated(stack: Stack) -> None:
    dead = added(stack, DEAD)
    for verb, status in (("verify", 1), ("activate", 4)):
        done = command(stack, "key", verb, "team", dead)
        assert (done.status, done.out) == (status, "") and "does not accept" in done.err
        assert states(stack) == ["active", "refused"]


def test_where_offergrid_does_not_say_nothing_changes(stack: Stack, sandbox: SandboxThread) -> None:
    second, before = added(stack, SECOND), keys(stack)
    for fault in ({"kind": "status", "code": 500}, {"kind": "reset_after_read"}, {"kind": "html_4xx"}):
        for verb in ("verify", "activate"):
            sandbox.set_fault(**fault, match={"method": "GET"})
            done = command(stack, "key", verb, "team", second)
            assert (done.status, done.out) == (5, "") and "not known" in done.err
            assert keys(stack) == before
            sandbox.clear_faults()


def test_a_key_of_another_account_is_found_out(stack: Stack, sandbox: SandboxThread) -> None:
    is_used(stack, sandbox, UPSTREAM_KEY)
    other = added(stack, ELSEWHERE)
    for verb in ("verify", "activate"):
        done = command(stack, "key", verb, "team", other)
        assert (done.status, done.out) == (4, "") and "another account" in done.err
        assert states(stack) == ["active", "standby"] and not keys(stack)[1]["sameAccount"]
    is_used(stack, sandbox, UPSTREAM_KEY)


def test_a_team_turns_to_another_account(stack: Stack, sandbox: SandboxThread) -> None:
    """Not while an order may lie in the old one; then nothing goes to that any more, and what is in doubt is looked for
    in the new one, whose listing need not hold what the old one has.
    """
    is_used(stack, sandbox, UPSTREAM_KEY)
    other = added(stack, ELSEWHERE)
    turn = ("key", "activate", "team", other, "--new-account")
    sandbox.set_fault("status", code=500, count=0, match={"method": "GET", "key": UPSTREAM_KEY})
    in_doubt = unknown(stack, sandbox, "in-doubt", "place_then_reset")
    before = keys(stack)
    done = command(stack, *turn)
    assert (done.status, done.out) == (4, "") and "1 order that nobody is sure of" in done.err
    assert keys(stack) == before
    sandbox.clear_faults()
    wait_until(lambda: outcome(stack, in_doubt) == "placed", "the order is found in the old account")
    assert command(stack, *turn).status == 0
    assert states(stack) == ["retiring", "active"] and [key["sameAccount"] for key in keys(stack)] == [False, True]
    is_used(stack, sandbox, ELSEWHERE)
    sent = len(sandbox.calls)
    absent = unknown(stack, sandbox, "absent", "reset_after_read")
    there = unknown(stack, sandbox, "there", "place_then_reset")
    wait_until(lambda: outcome(stack, there) == "placed", "the order is found in the new account")
    wait_until(lambda: outcome(stack, absent) == "not_placed", "the other one's absence is proven there")
    assert order(stack, "absent").status_code == 201 and used(sandbox) == ELSEWHERE
    replayed = order(stack, "in-doubt")
    assert (replayed.status_code, replayed.headers["idempotent-replayed"]) == (201, "true")
    assert all(dict(call.headers).get("x-api-key") == ELSEWHERE for call in sandbox.calls[sent:])
    assert command(stack, "audit", "verify").status == 0


def outcome(stack: Stack, order_id: str) -> str:
    with stack.client() as client:
        return str(client.get(f"/orders/{order_id}").json()["outcome"])
