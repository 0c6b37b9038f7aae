"""Keys, limits and orders: what the sandbox holds in memory. Nothing here knows of sockets."""

import math
import re
from collections import deque
from collections.abc import Mapping
from typing import Literal

from gateway.sandbox.records import ConnectionLog, Order, RawLogBudget, Request

RAW_LOG_BYTES = 256 * 1024 * 1024
KeyState = Literal["accepted", "revoked", "provider", "unknown"]
_NS = 1_000_000_000
_MINUTE_NS, _HOUR_NS = 60 * _NS, 3_600 * _NS
_PATTERNS: tuple[tuple[re.Pattern[str], KeyState], ...] = (
    (re.compile(r"sandbox-key-[^\s,]+"), "accepted"),
    (re.compile(r"sandbox-revoked-[^\s,]+"), "revoked"),
    (re.compile(r"sandbox-provider-[^\s,]+"), "provider"),
)


class Keys:
    """Which keys are accepted, and for which account.

    Without a mapping the name of a key says what it is and each key is an account of its own; with one, only
    its keys are accepted. `put` overrides either for one key.
    """

    def __init__(self, accounts: Mapping[str, str] | None) -> None:
        self._by_name = accounts is None
        self._accounts = dict(accounts or {})
        self._states: dict[str, KeyState] = {}

    def put(self, key: str, *, state: KeyState, account: str | None) -> None:
        """From now on `key` is in `state` and, where `account` is given, belongs to it."""
        self._states[key] = state
        if account is not None:
            self._accounts[key] = account

    def state(self, key: str) -> KeyState:
        if key in self._states:
            return self._states[key]
        if not self._by_name:
            return "accepted" if key in self._accounts else "unknown"
        return next((state for pattern, state in _PATTERNS if pattern.fullmatch(key)), "unknown")

    def account(self, key: str) -> str:
        return self._accounts.get(key, key)


class Limits:
    """At most `per_minute` calls of a key in any 60 s and `per_hour` in any 3,600 s (a sliding log); 0 = no limit.

    A refused call takes no place, so that a `retry-after` that is kept is true.
    """

    def __init__(self, per_minute: int, per_hour: int) -> None:
        self._windows = tuple((n, span) for n, span in ((per_minute, _MINUTE_NS), (per_hour, _HOUR_NS)) if n > 0)
        self._taken: dict[str, deque[int]] = {}

    def take(self, key: str, at_ns: int) -> int:
        """0: the call at `at_ns` (monotonic nanoseconds) is allowed. Else: whole seconds until a place is free."""
        if not self._windows:
            return 0
        taken = self._taken.setdefault(key, deque())
        longest_ns = self._windows[-1][1]
        while taken and at_ns - taken[0] >= longest_ns:
            taken.popleft()
        wait_ns = 0
        for limit, span_ns in self._windows:
            # The window is full when the limit-th call from the end is still inside it.
            if len(taken) >= limit and at_ns - taken[-limit] < span_ns:
                wait_ns = max(wait_ns, taken[-limit] + span_ns - at_ns)
        if wait_ns == 0:
            taken.append(at_ns)
        return math.ceil(wait_ns / _NS)

    def forget(self) -> None:
        self._taken.clear()


class State:
    """Everything the sandbox knows. Listed orders are in the order they were placed."""

    def __init__(self, *, keys: Mapping[str, str] | None, per_minute: int, per_hour: int) -> None:
        self.keys = Keys(keys)
        self.limits = Limits(per_minute, per_hour)
        self.orders: dict[str, Order] = {}
        self.calls: list[Request] = []
        self.connections: list[ConnectionLog] = []
        self.log_budget = RawLogBudget(RAW_LOG_BYTES)

    def receive(self, request: Request) -> None:
        """Enters a call in the receipt log and in the limits of its key. Called once its headers are read."""
        self.calls.append(request)
        if self.keys.state(request.key) in {"accepted", "provider"}:
            request.retry_after_s = self.limits.take(request.key, request.counted.monotonic_ns)
            request.allowed = request.retry_after_s == 0

    def of_account(self, account: str) -> list[Order]:
        return [order for order in self.orders.values() if order.account == account]

    def reset(self) -> None:
        """Forgets orders, calls, limits and raw logs; open connections stay and are logged anew. Keys stay."""
        self.orders.clear()
        self.calls.clear()
        self.limits.forget()
        self.log_budget.left = RAW_LOG_BYTES
        self.connections[:] = [log for log in self.connections if log.closed is None]
        for log in self.connections:
            log.chunks.clear()
