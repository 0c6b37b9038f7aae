"""Problem documents: valid JSON whatever OfferGrid said, with exactly the members that apply."""

import json

import pytest
from hypothesis import given

from gateway.core.outcome import UNREADABLE, parsed
from gateway.core.problems import MAX_UPSTREAM_TEXT, AboutOrder, document, upstream_body
from gateway.errors import BadRequest, InvalidOrder, OutcomeUnknown
from tests.core.test_outcome import BODIES


@given(BODIES)
def test_any_upstream_body_makes_a_valid_document(body: bytes) -> None:
    is_json = parsed(body) is not UNREADABLE
    order = AboutOrder(outcome="unknown", retryable=True, upstream=(500, upstream_body(body, is_json=is_json)))
    found = json.loads(document(OutcomeUnknown("why"), request_id="r", order=order))
    assert found["upstream"]["status"] == 500
    if is_json:
        assert found["upstream"]["body"] == json.loads(body)
    else:
        assert found["upstream"]["body"] == body.decode("utf-8", "replace")


@pytest.mark.parametrize("filler", ["x", "é", "😀", "\ufffd"])
def test_a_strangers_page_is_cut(filler: str) -> None:
    assert upstream_body((filler * 10_000).encode(), is_json=False) == filler * MAX_UPSTREAM_TEXT


def test_members_that_do_not_apply_are_left_out() -> None:
    assert json.loads(document(BadRequest("why"), request_id="r")) == {
        "type": "/problems/bad-request", "title": BadRequest.title, "status": 400, "detail": "why", "requestId": "r",
    }  # fmt: skip
    faults = InvalidOrder("why", errors=(("/a", "is missing"),))
    assert json.loads(document(faults, request_id="r"))["errors"] == [{"pointer": "/a", "detail": "is missing"}]
    order = AboutOrder(outcome="not_placed", retryable=True)
    assert "orderId" not in json.loads(document(OutcomeUnknown("why"), request_id="r", order=order))
