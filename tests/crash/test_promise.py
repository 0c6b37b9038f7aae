"""The checks of the promise see each thing that can be wrong with it, and nothing in a run where all is well."""

import json
from collections.abc import Callable
from typing import Any, Final

import httpx
import pytest
from msgspec import structs

from gateway.sandbox import SandboxThread
from tests.support import promise
from tests.support.promise import AttemptRow, Change, Post, Records, Row, Taken, Told, told
from tests.support.records import files_under, records_of, vault_of, watch_history
from tests.support.stack import UPSTREAM_KEY, an_order, running_stack

BODY: Final = b'{"orderId": "ord-1"}'
PROBLEM: Final = b'{"outcome": "unknown"}'


def a_201(**changed: Any) -> Told:
    headers = {"Ordergate-Order-Id": "o-1", "content-type": "application/json"}
    first = told(
        tenant="shop", key="k", mark="m", status=201, headers=headers, body=BODY, asked_at=3.0, told_at=4.0
    )
    return structs.replace(first, **changed)


def an_unknown(**changed: Any) -> Told:
    headers = {"ordergate-order-id": "o-1", "content-type": "application/problem+json"}
    first = told(
        tenant="shop", key="k", mark="m", status=502, headers=headers, body=PROBLEM, asked_at=1.0, told_at=2.0
    )
    return structs.replace(first, **changed)


AN_ATTEMPT: Final = AttemptRow(started_ms=1000, ended_ms=2000, evidence="sent", status=None)
A_ROW: Final = Row(
    order_id="o-1", tenant="shop", outcome="placed", http_status=201, upstream_order_id="ord-1", version=3,
    idempotency_key="k", attempts=(AN_ATTEMPT,), content=True, response=BODY, answer=None,
)  # fmt: skip
AN_ORDER: Final = Taken(upstream_order_id="ord-1", order_id="o-1", tenant="shop", mark="m", upstream_key="key")
A_POST: Final = Post(order_id="o-1", first_byte_ms=1500, whole=True)
HISTORY: Final = tuple(
    Change(order_id="o-1", version=version, outcome=outcome)
    for version, outcome in enumerate(("in_flight", "unknown", "placed"), 1)
)
ALL_WELL: Final = Records(
    told=(an_unknown(), a_201()), taken=(AN_ORDER,), rows=(A_ROW,), posts=(A_POST,), changes=HISTORY
)


def row(**changed: Any) -> Records:
    return structs.replace(ALL_WELL, rows=(structs.replace(A_ROW, **changed),))


def history(*outcomes: str, **changed: Any) -> Records:
    changes = tuple(Change(order_id="o-1", version=at, outcome=outcome) for at, outcome in enumerate(outcomes, 1))
    return structs.replace(row(**changed), changes=changes)


def again(evidence: str, status: int | None = None) -> tuple[AttemptRow, AttemptRow]:
    return structs.replace(AN_ATTEMPT, evidence=evidence, status=status), AN_ATTEMPT


SECOND: Final = structs.replace(AN_ORDER, upstream_order_id="ord-2")
WRONG: Final[dict[str, tuple[Records, str]]] = {
    "one id twice": (structs.replace(ALL_WELL, taken=(AN_ORDER, SECOND)), "holds order o-1 2 times"),
    "no id": (
        structs.replace(ALL_WELL, taken=(AN_ORDER, structs.replace(SECOND, order_id=None, mark=None))),
        "without the gateway's id",
    ),
    "one mark twice": (
        structs.replace(
            ALL_WELL,
            taken=(AN_ORDER, structs.replace(SECOND, order_id="o-2")),
            rows=(A_ROW, structs.replace(A_ROW, order_id="o-2", upstream_order_id="ord-2", idempotency_key=None)),
            changes=None,
        ),
        "wanted once (mark 'm') OfferGrid holds 2 times",
    ),
    "two rows of a key": (
        structs.replace(ALL_WELL, rows=(A_ROW, structs.replace(A_ROW, order_id="o-2", outcome="unknown"))),
        "2 orders under tenant shop's key 'k'",
    ),
    "two ids told": (structs.replace(ALL_WELL, told=(an_unknown(order_id="o-2"), a_201())), "told 2 order ids"),
    "201 for nothing": (structs.replace(ALL_WELL, taken=()), "which OfferGrid does not hold"),
    "201 for another's": (
        structs.replace(ALL_WELL, told=(a_201(mark="other"),)),
        "which is another order: o-1, mark 'm'",
    ),
    "201 that the ledger lost": (structs.replace(ALL_WELL, rows=()), "which the ledger does not have"),
    "201 and not placed": (row(outcome="unknown"), "the ledger says unknown with ord-1"),
    "201 with another id": (row(upstream_order_id="ord-9"), "the ledger says placed with ord-9"),
    "one upstream id twice": (
        structs.replace(ALL_WELL, rows=(A_ROW, structs.replace(A_ROW, order_id="o-2", idempotency_key=None))),
        "ord-1 stands in 2 orders",
    ),
    "denied": (row(outcome="not_placed"), "OfferGrid holds order o-1 as ord-1; the ledger says not_placed"),
    "refused and there": (row(outcome="rejected"), "the ledger says rejected"),
    "queued and there": (row(outcome="queued"), "the ledger says queued"),
    "not in the ledger": (structs.replace(ALL_WELL, rows=(), told=()), "and the ledger has none"),
    "a byte before its attempt": (
        structs.replace(ALL_WELL, posts=(structs.replace(A_POST, first_byte_ms=999),)),
        "arrived at OfferGrid for the 1. time at 999",
    ),
    "a byte of not_sent": (
        row(attempts=(structs.replace(AN_ATTEMPT, evidence="not_sent"),)),
        "1 orders began to arrive at OfferGrid; 0 attempts may have sent",
    ),
    "sent twice in one attempt": (structs.replace(ALL_WELL, posts=(A_POST, A_POST)), "for the 2. time"),
    "headers of nobody's order": (
        structs.replace(ALL_WELL, posts=(A_POST, structs.replace(A_POST, order_id=None, whole=False))),
        "2 orders began to arrive",
    ),
    "a post without a row": (
        structs.replace(ALL_WELL, posts=(structs.replace(A_POST, order_id="o-9"),)),
        "o-9 arrived at OfferGrid and is not in the ledger",
    ),
    "sent again in doubt": (
        history("in_flight", "in_flight", "placed", attempts=again("sent")),
        "attempt 2 followed one with evidence sent",
    ),
    "sent again after 500": (
        history("in_flight", "in_flight", "placed", attempts=again("answered", 500)),
        "attempt 2 followed one with evidence answered, status 500",
    ),
    "sent again while unknown": (
        history("in_flight", "unknown", "in_flight", "placed", attempts=again("sent")),
        "while the order was unknown",
    ),
    "denied what was unknown": (
        history("in_flight", "unknown", "rejected", "placed"),
        "went from unknown to rejected",
    ),
    "placed and then not": (
        history("in_flight", "placed", "unknown", "placed"),
        "went from placed to unknown (version 3)",
    ),
    "begun as unknown": (history("unknown", "placed"), "went from None to unknown"),
    "back from nowhere": (history("in_flight", "placed", "forgotten", "placed"), "went from forgotten to placed"),
    "a version left out": (
        structs.replace(ALL_WELL, changes=(HISTORY[0], structs.replace(HISTORY[1], version=7), HISTORY[2])),
        "went from version 1 to 7",
    ),
    "a row unlike its history": (
        structs.replace(ALL_WELL, changes=HISTORY[:2], told=()),
        "is placed, and was written last as unknown",
    ),
    "two final answers": (
        structs.replace(ALL_WELL, told=(a_201(), a_201(body=b'{"orderId":"ord-1"}'))),
        "was told different final answers",
    ),
    "doubt after the end": (
        structs.replace(ALL_WELL, told=(a_201(), an_unknown(asked_at=5.0, told_at=6.0))),
        "was told 502, unknown after its final answer",
    ),
    "what the ledger never said": (
        structs.replace(ALL_WELL, told=(an_unknown(outcome="not_placed"), a_201())),
        "the ledger never said so",
    ),
    "of an order that is not there": (
        structs.replace(ALL_WELL, told=(an_unknown(order_id="o-9", mark="n"), a_201())),
        "the ledger has none",
    ),
    "other bytes than the ledger's": (row(response=b"{}"), "the ledger has other bytes for it"),
    "another status": (row(http_status=200), "told 201, placed; the ledger says 200, placed"),
    "another tenant's": (
        structs.replace(ALL_WELL, told=(a_201(tenant="other"),)),
        "tenant other was told of order o-1, which is shop's",
    ),
    "in another's name": (
        structs.replace(ALL_WELL, taken=(structs.replace(AN_ORDER, tenant="other"),)),
        "stands at OfferGrid as other's",
    ),
}


def test_a_run_where_all_is_well_breaks_nothing() -> None:
    assert promise.broken(ALL_WELL) == []
    assert promise.nothing_unsettled(ALL_WELL.rows) == []
    assert promise.keys_stay_with_their_team(ALL_WELL, {"shop": ["key"]}) == []


@pytest.mark.parametrize(("records", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_seen(records: Records, sentence: str) -> None:
    found = promise.broken(records)
    assert any(sentence in line for line in found), found


HARMLESS: Final[dict[str, Records]] = {
    "sent again after not_sent": history("in_flight", "in_flight", "placed", attempts=again("not_sent")),
    "sent again after 429": history("in_flight", "in_flight", "placed", attempts=again("answered", 429)),
    "sent again after absence": history(
        "in_flight", "unknown", "not_placed", "in_flight", "placed", attempts=again("sent")
    ),
    "waited in between": history(
        "queued", "in_flight", "unknown", "not_placed", "queued", "in_flight", "placed", attempts=again("sent")
    ),
    "its end could not be written": history("in_flight", "placed"),
    "late, which it may not be": structs.replace(ALL_WELL, taken=(AN_ORDER, SECOND), late=frozenset({"o-1"})),
}


@pytest.mark.parametrize("records", HARMLESS.values(), ids=HARMLESS)
def test_what_is_allowed_is_not_held_against_it(records: Records) -> None:
    assert promise.broken(records) == []


@pytest.mark.parametrize("outcome", ["queued", "in_flight", "unknown"])
def test_what_is_left_unsettled_is_seen(outcome: str) -> None:
    assert promise.nothing_unsettled(row(outcome=outcome).rows) == [f"order o-1 is still {outcome}"]


def test_a_key_that_went_astray_is_seen() -> None:
    assert promise.keys_stay_with_their_team(ALL_WELL, {"shop": ["another"]})


def test_counters_that_do_not_conserve_are_seen() -> None:
    def count(answered: int, gauge: int) -> list[str]:
        return promise.counters_conserve(
            answered=answered, orders_total=2, unsettled={"unknown": gauge}, rows=row(outcome="unknown").rows
        )

    assert count(2, 1) == []
    assert len(count(3, 1)) == 1
    assert len(count(2, 0)) == 1


def test_a_canary_in_the_clear_is_seen() -> None:
    texts = {"a.log": b"nothing", "b.db": b"..secret.."}
    assert promise.canaries_found(texts, {"the key": "secret"}) == ["b.db holds the key in the clear"]


CALLS: Final[dict[str, Callable[[httpx.Client], httpx.Response]]] = {
    "a": lambda client: client.post("/orders", json=an_order(notes="a"), headers={"idempotency-key": "key-of-a"}),
    "b": lambda client: client.post("/orders", json=an_order(notes="b")),
}


def test_a_real_run_is_read_from_its_three_places() -> None:
    with SandboxThread() as sandbox, running_stack(upstream_base_url=sandbox.base_url) as stack:
        ledger = stack.folder / "var/ordergate.db"
        watch_history(ledger)
        answers = []
        with stack.client() as client:
            for mark in ("a", "a", "b"):
                if mark == "b":
                    sandbox.set_fault("place_then_reset")
                answer = CALLS[mark](client)
                answers.append(
                    told(
                        tenant="shop", key="key-of-a" if mark == "a" else None, mark=mark,
                        status=answer.status_code, headers=answer.headers, body=answer.content,
                    )
                )  # fmt: skip
        found = records_of(told=answers, sandbox=sandbox, ledger=ledger, seals=vault_of(stack.folder))
        secrets = {"the upstream key": UPSTREAM_KEY, "the token": stack.token, "a customer": "A Customer",
                   "an idempotency key": "key-of-a"}  # fmt: skip
        texts = {**files_under(stack.folder), "its log": json.dumps(stack.process.log).encode()}
        assert promise.canaries_found(texts, secrets) == []
    assert promise.broken(found) == []
    assert [answer.outcome for answer in answers] == ["placed", "placed", "unknown"]
    assert [answer.replayed for answer in answers] == [False, True, False]
    assert [order.mark for order in found.taken] == ["a", "b"]
    assert [post.order_id for post in found.posts] == [order.order_id for order in found.taken]
    assert all(post.whole and post.upstream_key == UPSTREAM_KEY for post in found.posts)
    assert {entry.idempotency_key for entry in found.rows} == {"key-of-a", None}
    assert [change.outcome for change in found.changes or ()] == ["in_flight", "placed", "in_flight", "unknown"]
    assert len(promise.nothing_unsettled(found.rows)) == 1
