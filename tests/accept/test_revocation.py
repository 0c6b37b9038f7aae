"""How soon a change of the administration acts, under load, and that none of them costs an order.

Times run from the moment when the change was written, which is before its command has ended, to the last answer that
still was as before. They are printed, for docs/revocation.md; asserted is only what no busy machine can break: what
was taken away is refused in the end and stays refused, and no order of anybody else fails meanwhile.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpx

from gateway.broker.administration import Administration
from gateway.broker.vault import Secret
from gateway.sandbox.records import Request
from gateway.wiring.keys import activate_key
from tests.accept.raw import RawConnection, request
from tests.accept.world import World, a_world, wait_until
from tests.support.stack import UPSTREAM_KEY

SOAK: Final = os.environ.get("ORDERGATE_SOAK") == "1"
TIMES: Final = 50 if SOAK else 4
ORDERS: Final = 1_000 if SOAK else 100
"""At least so many while keys, or tokens, rotate."""

LOADERS: Final = 3
PAUSE_S: Final = 0.005
STAYS: Final = 10
"""Requests that must be refused in a row once the first one was."""

SETTINGS: Final[dict[str, Any]] = {"budget__per_minute": 0, "budget__per_hour": 0}
LOOK: Final = "GET /orders?limit=1 HTTP/1.1"


class Load:
    """Tenants that place orders with whichever token `token()` gives at the time; every answer's status is kept."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self.told: Counter[int] = Counter()
        self._url = url
        self._token = token
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._each = [0] * LOADERS
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(LOADERS)]
        for thread in self._threads:
            thread.start()

    @property
    def orders(self) -> int:
        with self._lock:
            return self.told.total()

    def goes_on(self) -> None:
        """Waits until each of them has begun another order, and had its answer, since this was called."""
        before = list(self._each)
        wait_until(
            lambda: all(now >= then + 2 for now, then in zip(self._each, before, strict=True)),
            "what was under way to end",
        )

    def end(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, at: int) -> None:
        with RawConnection(self._url) as connection:
            while not self._enough.wait(PAUSE_S):
                connection.send(request(token=self._token()))
                status = connection.answer().status_code
                with self._lock:
                    self.told[status] += 1
                    self._each[at] += 1


@contextmanager
def under_load(world: World, token: Callable[[], str] | None = None) -> Iterator[Load]:
    """Behind the block: no order of the load has failed."""
    load = Load(world.stack.tenant_url, token or (lambda: world.stack.token))
    try:
        yield load
    finally:
        load.end()
    assert set(load.told) == {201}, load.told


def first_answer(url: str, token: str, status: int) -> None:
    """Waits until the token is answered so."""
    with RawConnection(url) as connection:

        def is_so() -> bool:
            connection.send(request(first=LOOK, token=token, body=b"", kind=None))
            return connection.answer().status_code == status

        wait_until(is_so, f"{status} for the token")


def acts_after_s(url: str, token: str, change: Callable[[], object], status: int) -> float:
    """Seconds from the end of `change` until the last request with the token that was still let in; 0: none was."""
    last, changed, refused = 0.0, [0.0], 0

    def act() -> None:
        change()
        changed[0] = time.monotonic()

    acting = threading.Thread(target=act)
    with RawConnection(url) as connection:
        acting.start()
        until = time.monotonic() + 60
        while refused < STAYS:
            assert time.monotonic() < until, "the change never acts"
            connection.send(request(first=LOOK, token=token, body=b"", kind=None))
            answered = connection.answer().status_code
            assert answered in (200, status)
            assert answered == status or not refused, "let in once more after it was refused"
            refused += answered == status
            last = last if refused else time.monotonic()
    acting.join()
    return max(0.0, last - changed[0])


def told(what: str, seconds: Sequence[float], load: Load) -> None:
    ordered = sorted(seconds)
    print(  # noqa: T201  # the figures
        f"{what}: {len(ordered)} times under {load.orders} orders, none of which failed; until the last that was as "
        f"before: median {ordered[len(ordered) // 2]:.3f} s, slowest {ordered[-1]:.3f} s"
    )


def test_a_revoked_token_is_refused_at_once_and_for_good() -> None:
    with a_world(**SETTINGS) as world, world.stack.administration() as admin:
        url, seconds = world.stack.tenant_url, []
        with under_load(world) as load:
            for _ in range(TIMES):
                issued = admin.issue_token("shop")
                token = issued.token.text()
                first_answer(url, token, 200)
                seconds.append(acts_after_s(url, token, _later(world, "revoke_token", issued.token.token_id), 401))
        told("revoking a token", seconds, load)


def test_a_suspended_tenant_is_refused_at_once_and_others_go_on() -> None:
    with a_world(**SETTINGS) as world:
        token, url, seconds = world.stack.new_tenant("another"), world.stack.tenant_url, []
        with under_load(world) as load:
            for _ in range(TIMES):
                first_answer(url, token, 200)
                suspend = _later(world, "set_tenant_state", "another", "suspended")
                seconds.append(acts_after_s(url, token, suspend, 403))
                _later(world, "set_tenant_state", "another", "active")()
        told("suspending a tenant", seconds, load)


def _later(world: World, operation: str, *arguments: str) -> Callable[[], object]:
    """That operation of the administration, from whichever thread."""

    def act() -> object:
        with world.stack.administration() as admin:
            return getattr(admin, operation)(*arguments)

    return act


def test_tokens_rotate_and_no_order_fails() -> None:
    """A new one is issued, the caller turns to it, the old one is revoked."""
    with a_world(**SETTINGS) as world, world.stack.administration() as admin:
        now, seconds = [world.stack.token], []
        old_id = admin.tokens("shop")[0].token_id
        with under_load(world, lambda: now[0]) as load:
            for number in range(1, TIMES + 1):
                issued = admin.issue_token("shop")
                first_answer(world.stack.tenant_url, issued.token.text(), 200)
                old, now[0] = now[0], issued.token.text()
                load.goes_on()
                seconds.append(
                    acts_after_s(world.stack.tenant_url, old, _later(world, "revoke_token", old_id), 401)
                )
                old_id = issued.token.token_id
                wait_until(lambda: load.orders >= ORDERS * number // TIMES, "so many orders")  # noqa: B023 - called before the next turn of the loop
        assert load.orders >= ORDERS
        told("rotating tokens", seconds, load)


def test_upstream_keys_rotate_and_no_order_fails() -> None:
    """One is added, activated, and the old one revoked: here, and at OfferGrid once it is not used any more."""
    with a_world(**SETTINGS) as world, world.stack.administration() as admin:
        old, old_id, seconds = UPSTREAM_KEY, admin.keys("team")[0].key_id, []
        with under_load(world) as load:
            for number in range(1, TIMES + 1):
                new = f"sandbox-key-number-{number}"
                _at_offergrid(world, new, "accepted")
                new_id = _activated(world, admin, new)
                activated = time.monotonic()
                admin.revoke_key("team", old_id)
                wait_until(lambda: _last(world).key == new, "the new key to be used")  # noqa: B023 - called before the next turn of the loop
                load.goes_on()
                last = max(call.counted.monotonic_ns for call in _calls(world) if call.key == old) / 1e9
                seconds.append(max(0.0, last - activated))
                _at_offergrid(world, old, "revoked")
                old, old_id = new, new_id
                wait_until(lambda: load.orders >= ORDERS * number // TIMES, "so many orders")  # noqa: B023 - called before the next turn of the loop
        assert load.orders >= ORDERS
        assert {call.answer.status for call in _calls(world) if call.answer is not None} == {200, 201}
        told("rotating upstream keys", seconds, load)


def _activated(world: World, admin: Administration, key: str) -> str:
    """Added and activated, which takes a read with it; its id."""
    key_id = admin.add_key("team", Secret(key)).key_id
    activate_key(world.stack.settings, "team", key_id, new_account=False)
    return key_id


def _at_offergrid(world: World, key: str, state: str) -> None:
    given = {"key": key, "state": state, "account": UPSTREAM_KEY}
    assert httpx.post(f"{world.sandbox.base_url}/sandbox/keys", json=given, trust_env=False).status_code == 204


def _calls(world: World) -> list[Request]:
    return [call for call in world.sandbox.calls if not call.is_control]


def _last(world: World) -> Request:
    return [call for call in _calls(world) if call.method == "POST"][-1]
