"""Evidence to outcome: a row for each row of the table, and doubt is never `not_placed`."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence import Answered, Evidence, NotSent, NotSentReason, Sent, SentReason
from gateway.core.lifecycle import OUTCOMES
from gateway.core.outcome import UNREADABLE, Cause, Verdict, classify, parsed

PLACED = b'{"orderId":"ord-1","items":[],"createdAt":"2025-01-02T10:00:00Z"}'
NEST = {
    "message": b'{"statusCode":400,"message":"bad","error":"Bad Request"}',
    "list": b'{"statusCode":400,"message":["a","b"],"error":"Bad Request"}',
    "field": b'{"error":"Invalid email format","field":"customerInfo.email"}',
    "empty object": b"{}",
}
HTML = b"<html><body>502 Bad Gateway</body></html>"
NO_OBJECT = [
    b"",
    b"  ",
    HTML,
    b"[]",
    b'"text"',
    b"5",
    b"null",
    b"{",
    b"{}x",
    b'{"a":1,"a":2}',
    b'{"a":NaN}',
    b"\xff",
    b"\xef\xbb\xbf{}",
]
UNKNOWN = Verdict(outcome="unknown", cause="unusable_answer")


def _answered(status: int, body: bytes = b"", **more: Any) -> Answered:
    return Answered(status=status, body=body, **more)


@pytest.mark.parametrize("reason", get_args(NotSentReason))
def test_nothing_was_sent(reason: NotSentReason) -> None:
    assert classify(NotSent(reason=reason)) == Verdict(outcome="not_placed", cause="unreachable")


@pytest.mark.parametrize("reason", get_args(SentReason))
def test_sent_and_no_whole_answer(reason: SentReason) -> None:
    """Rows 15, 16, 19 to 24 of a fault matrix arrive here: cut, garbled, encoded, too large, or nothing in time."""
    assert classify(Sent(reason=reason)) == Verdict(outcome="unknown", cause=reason)


@pytest.mark.parametrize("status", [*range(200, 300)])
def test_any_2xx_with_an_order_id_is_placed(status: int) -> None:
    assert classify(_answered(status, PLACED)) == Verdict(
        outcome="placed", cause="placed", upstream_order_id="ord-1"
    )


DIGITS = b"9" * 5_000


@pytest.mark.parametrize(
    ("body", "order_id"),
    [
        (b' \r\n{"orderId" : "ord-1"}\n', "ord-1"),
        (b'{"orderId":"ord-1","new":{"x":[1]}}', "ord-1"),
        (b'{"x":' + DIGITS + b',"orderId":"ord-1"}', "ord-1"),
        (b'{"x":1e999,"y":0.' + DIGITS + b',"orderId":"ord-1"}', "ord-1"),
        (b'{"orderId":"\\u006frd-1"}', "ord-1"),
        (b'{"orderId":"\\ud83d\\ude00"}', "😀"),
        (b'{"orderId":"ord-1","note":"\\ud800"}', "ord-1"),
        ('{"orderId":"bestellung-ä"}'.encode(), "bestellung-ä"),
        (b'{"orderId":" "}', " "),
        (b'{"orderId":5}', None),
        (b'{"orderId":""}', None),
        (b'{"orderId":null}', None),
        (b'{"orderId":true}', None),
        (b'{"orderId":["ord-1"]}', None),
        (b'{"orderId":{"id":"ord-1"}}', None),
        (b'{"orderId":"a","orderId":"b"}', None),
        (b'{"orderId":"a","\\u006frderId":"a"}', None),
        (b'{"orderid":"a"}', None),
        (b'{"order":{"orderId":"a"}}', None),
        (b'[{"orderId":"a"}]', None),
        (b'{"orderId":"a","x":NaN}', None),
        (b'{"orderId":"a","x":[-Infinity]}', None),
        (b'{"orderId":"a","x":{"b":1,"b":2}}', None),
        (b'{"orderId":"a"', None),
        (b'{"orderId":"a"}{}', None),
        (b'{"orderId":"\xff"}', None),
        (b'{"orderId":"\\ud800"}', None),
        (b'{"orderId":"a\\udc00b"}', None),
        (b'\xef\xbb\xbf{"orderId":"a"}', None),
        (b'{"orderId":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"orderId":"a","x":' + b'{"a":' * 100_000, None),
        (HTML, None),
        (b"", None),
        (b"ord-1", None),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_2xx_is_placed_by_its_order_id_alone(status: int, body: bytes, order_id: str | None) -> None:
    wanted = UNKNOWN if order_id is None else Verdict(outcome="placed", cause="placed", upstream_order_id=order_id)
    assert classify(_answered(status, body)) == wanted


CAUSES: dict[int, Cause] = {401: "key_refused", 403: "key_forbidden", 429: "throttled"}


@pytest.mark.parametrize(("status", "cause"), CAUSES.items())
@pytest.mark.parametrize("body", [b"", b" \n", *NEST.values(), b"[]", b"null", b'"no"', b"5"])
def test_refused_calls_with_json_or_nothing_were_not_acted_on(status: int, cause: Cause, body: bytes) -> None:
    assert classify(_answered(status, body)) == Verdict(outcome="not_placed", cause=cause)


@pytest.mark.parametrize("status", CAUSES)
@pytest.mark.parametrize("body", [HTML, b"{", b'{"a":1,"a":2}', b"{'a':1}", b"\xff", b"\x00", b"{}x", b"NaN"])
def test_refused_calls_with_a_strangers_body_prove_nothing(status: int, body: bytes) -> None:
    assert classify(_answered(status, body)) == UNKNOWN


REJECTING = [status for status in range(400, 500) if status not in (401, 403, 408, 429)]


@pytest.mark.parametrize("body", NEST.values(), ids=NEST.keys())
def test_any_other_4xx_with_an_object_is_rejected(body: bytes) -> None:
    for status in REJECTING:
        assert classify(_answered(status, body)) == Verdict(outcome="rejected", cause="rejected"), status


@pytest.mark.parametrize("body", NO_OBJECT)
def test_any_other_4xx_without_an_object_is_unknown(body: bytes) -> None:
    for status in REJECTING:
        assert classify(_answered(status, body)) == UNKNOWN, status


@pytest.mark.parametrize("body", [b"", PLACED, *NEST.values(), HTML])
def test_everything_else_is_unknown(body: bytes) -> None:
    for status in (*range(200), *range(300, 400), 408, *range(500, 600), 600, 999):
        assert classify(_answered(status, body)) == UNKNOWN, status


BODIES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([PLACED, HTML, *NEST.values(), *NO_OBJECT]),
    st.dictionaries(
        st.sampled_from(["orderId", "status", "message"]),
        st.one_of(st.none(), st.integers(), st.text()),
        max_size=3,
    ).map(lambda value: json.dumps(value).encode()),
)
EVIDENCE: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(NotSent, reason=st.sampled_from(get_args(NotSentReason)), detail=st.text(max_size=5)),
    st.builds(Sent, reason=st.sampled_from(get_args(SentReason)), detail=st.text(max_size=5)),
    st.builds(
        Answered,
        status=st.one_of(st.integers(100, 599), st.integers(-1, 1000)),
        body=BODIES,
        content_type=st.text(max_size=5),
        retry_after=st.one_of(st.none(), st.text(max_size=5)),
    ),
)


@given(EVIDENCE)
def test_every_evidence_has_one_verdict_and_doubt_stays_doubt(evidence: Evidence) -> None:
    verdict = classify(evidence)
    assert verdict.outcome in OUTCOMES and verdict.cause in get_args(Cause)
    assert (verdict.upstream_order_id is not None) == (verdict.outcome == "placed")
    match evidence:
        case NotSent():
            allowed = {"not_placed"}
        case Sent():
            allowed = {"unknown"}
        case Answered(status=status) if 200 <= status < 300:
            allowed = {"placed", "unknown"}
        case Answered(status=401 | 403 | 429):
            allowed = {"not_placed", "unknown"}
        case Answered(status=status) if status in REJECTING:
            allowed = {"rejected", "unknown"}
        case _:
            allowed = {"unknown"}
    assert verdict.outcome in allowed


@given(st.binary(max_size=200))
def test_any_body_is_read_or_unreadable(body: bytes) -> None:
    if parsed(body) is UNREADABLE:
        return
    json.loads(body.decode())
