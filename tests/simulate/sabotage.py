"""Ways to break the gateway on purpose. Each one is a promise that the code keeps, and does not keep any more."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest import mock

import msgspec

from gateway.core import absence, outcome, resend
from gateway.core.evidence import Answered, Evidence, Sent
from gateway.core.outcome import Judged, Verdict
from gateway.errors import LedgerError
from gateway.flow import describe, sending, settle
from gateway.ledger import sqlite, sqlite_engine, sqlite_orders, sqlite_owner, sqlite_recover, sqlite_rows
from gateway.ledger.interface import Claimed

Patch = AbstractContextManager[Any]


def send_before_the_intent_is_written() -> Patch:
    real = sqlite.SqliteLedger.claim

    async def claim(self: Any, order: Any, attempt: Any) -> Any:
        writing = asyncio.ensure_future(real(self, order, attempt))
        await asyncio.sleep(0)
        return Claimed(order_id=order.order_id, version=1) if attempt and not writing.done() else await writing

    return mock.patch.object(sqlite.SqliteLedger, "claim", claim)


def answer_before_the_end_is_written() -> Patch:
    async def told(self: Any, claim: Any, ended: Any, settlement: Any, *, otherwise: Any = None) -> Any:
        self._intake.start(self._write(claim, ended, settlement, otherwise), claim.order_id)
        return settlement

    return mock.patch.object(settle.Settler, "settle", told)


def commit_without_syncing() -> Patch:
    real = sqlite_engine._configure

    def configure(connection: Any, path: Any) -> None:
        real(connection, path)
        connection.pragma("synchronous", "NORMAL")

    return mock.patch("tests.simulate.simulated_gateway._configure", configure)


def take_an_undecided_commit_for_nothing_written() -> Patch:
    return mock.patch.object(sqlite_engine, "LedgerUndecided", LedgerError)


def recover_what_was_in_flight_as_not_placed() -> Patch:
    changed = sqlite_recover._RECOVER_SENT.replace("'unknown'", "'not_placed'")
    return mock.patch.object(sqlite_recover, "_RECOVER_SENT", changed)


def take_over_from_the_living() -> Patch:
    def gone(self: Any, epochs: Any) -> list[int]:
        return [epoch for epoch in epochs if epoch != self.epoch]

    return mock.patch.object(sqlite_owner.Owner, "gone", gone)


def send_again_after_a_reset() -> Patch:
    real = resend.pause_before_resend

    def pause(evidence: Evidence, verdict: Verdict, *, attempts: int, **rest: Any) -> float | None:
        if isinstance(evidence, Sent) and evidence.reason == "broken" and attempts < 2:
            return 0.05
        return real(evidence, verdict, attempts=attempts, **rest)

    return mock.patch.object(sending, "pause_before_resend", pause)


def call_a_server_error_not_placed() -> Patch:
    real = outcome.judged

    def judged(evidence: Evidence) -> Judged:
        if isinstance(evidence, Answered) and evidence.status >= 500:
            return Judged(evidence=evidence, verdict=Verdict(outcome="not_placed", cause="unreachable"))
        return real(evidence)

    return mock.patch.object(sending, "judged", judged)


def recover_what_is_in_hand() -> Patch:
    def let_go(self: Any, order: Any, _hands: Any) -> bool:
        return bool(order.owner == self._epoch)

    return mock.patch.object(sqlite_recover.Hands, "let_go", let_go)


def send_however_late() -> Patch:
    real = sending.Sender.in_hand

    def in_hand(self: Any, *args: Any) -> Any:
        return msgspec.structs.replace(real(self, *args), send_by=1e12)

    return mock.patch.object(sending.Sender, "in_hand", in_hand)


def tell_tenants_apart_by_nothing() -> Patch:
    keys = sqlite_rows._BY_KEY.replace("tenant_id = :tenant_id AND", "")
    bodies = sqlite_rows._BY_BODY.replace("tenant_id = :tenant_id AND", "")
    real = describe.Describer.order

    def order(self: Any, request: Any) -> Any:
        found = real(self, request)
        key = request.idempotency_key
        return msgspec.structs.replace(
            found,
            fingerprint=self._marks.mac("claim-body", request.content),
            key_digest=None if key is None else self._marks.mac("claim-key", key.encode()),
        )

    stack = mock.patch.multiple(sqlite_rows, _BY_KEY=keys, _BY_BODY=bodies)
    return _Both(stack, mock.patch.object(describe.Describer, "order", order))


def claim_whatever_is_there_already() -> Patch:
    return mock.patch.object(sqlite_orders.OrderWrites, "_same_order", lambda *_: None)


def forget_keys_at_once() -> Patch:
    return mock.patch.object(sqlite_rows.OrderRow, "expired", lambda *_, **__: True)


def believe_one_listing() -> Patch:
    def advance(self: Any, proof: Any, began: float, *, covered: bool) -> bool:
        return covered and not proof.listed and bool(began >= proof.seen + self._terms.settle_after_s)

    return mock.patch.object(absence.Absence, "_advance", advance)


def believe_listings_without_witnesses() -> Patch:
    return mock.patch.object(absence, "_covers_from", lambda *_: absence.EVERY)


def believe_listings_too_soon() -> Patch:
    real = absence.Absence.__init__

    def begin(self: Any, terms: Any) -> None:
        real(self, msgspec.structs.replace(terms, settle_after_s=0))

    return mock.patch.object(absence.Absence, "__init__", begin)


class _Both:
    def __init__(self, *patches: Patch) -> None:
        self._patches = patches

    def __enter__(self) -> None:
        for patch in self._patches:
            patch.__enter__()

    def __exit__(self, *fault: Any) -> None:
        for patch in self._patches:
            patch.__exit__(*fault)


SABOTAGES: Final[tuple[Callable[[], Patch], ...]] = (
    send_before_the_intent_is_written,
    answer_before_the_end_is_written,
    commit_without_syncing,
    take_an_undecided_commit_for_nothing_written,
    recover_what_was_in_flight_as_not_placed,
    take_over_from_the_living,
    recover_what_is_in_hand,
    send_again_after_a_reset,
    call_a_server_error_not_placed,
    send_however_late,
    tell_tenants_apart_by_nothing,
    claim_whatever_is_there_already,
    forget_keys_at_once,
    believe_one_listing,
    believe_listings_without_witnesses,
    believe_listings_too_soon,
)
