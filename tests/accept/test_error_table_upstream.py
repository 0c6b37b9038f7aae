"""The error table's rows for orders that were sent: what OfferGrid said of them, or failed to say."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, Final

import pytest

from tests.accept.world import World, about_order, wait_until
from tests.support.stack import UPSTREAM_KEY

NEST_400: Final = {"statusCode": 400, "message": ["notes must be a string"], "error": "Bad Request"}


@pytest.mark.parametrize("code", [400, 402, 404, 405, 409, 410, 413, 415, 418, 422, 425, 431, 451, 499])
def test_4xx_order_rejected(world: World, code: int) -> None:
    body = {"statusCode": code, "message": "no", "n": 1}
    world.sandbox.set_fault("status", code=code, body=body)
    key = f"rejected-{code}"
    answer = world.order(key, notes="same")
    found = about_order(world, answer, code, "order-rejected", "rejected")
    assert found["upstream"] == {"status": code, "body": body}
    assert world.shown(found["orderId"])["response"] == body
    # Final: the same answer again, byte for byte, and nothing is sent.
    again = world.order(key, notes="same")
    assert (again.status_code, again.content) == (answer.status_code, answer.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(world.calls) == 1


@pytest.mark.parametrize("members", [
    {"customerInfo": {"fullName": "A", "email": "no-address", "phone": "1"}}, {"items": [{"offerId": "unavailable-1"}]},
])  # fmt: skip
def test_4xx_order_rejected_by_offergrids_own_rules(world: World, members: dict[str, Any]) -> None:
    answer = world.order(**members)
    found = about_order(world, answer, world.calls[0].answer.status, "order-rejected", "rejected")  # type: ignore[union-attr]  # it has answered
    assert found["upstream"]["body"] == json.loads(world.calls[0].answer.body)  # type: ignore[union-attr]  # as above


def test_409_order_in_flight(world: World) -> None:
    world.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.order, "running", notes="same")
        wait_until(lambda: len(world.calls) == 1, "the first one at the sandbox")
        for _ in range(3):
            second = world.order("running", notes="same")
            found = about_order(world, second, 409, "order-in-flight", "in_flight")
            assert second.headers["retry-after"] == "1"
        world.sandbox.clear_faults()
        assert first.result().headers["ordergate-order-id"] == found["orderId"]
    third = world.order("running", notes="same")
    assert (third.status_code, third.content) == (201, first.result().content)
    assert len(world.calls) == 1


RETRY_AFTER: Final = {
    "10": (10, 10), "3600": (3600, 3600), "100000": (3600, 3600), "9" * 30: (3600, 3600), "0": (1, 1), "-1": (1, 1),
    "soon": (1, 1), "1.5": (1, 1), "": (1, 1), "٣": (1, 1),
}  # fmt: skip


def _a_key_of_its_own(world: World) -> str:
    """A token of a tenant whose team nobody else is of: what OfferGrid says of a key holds for all who share it."""
    name = f"alone-{uuid.uuid4().hex}"
    return world.token_of(name, team=name, key=f"sandbox-key-{name}")


@pytest.mark.parametrize("said", RETRY_AFTER)
def test_429_upstream_throttled(hasty: World, said: str) -> None:
    """In 0.8 s no second can be waited for: at once, with what OfferGrid said made sane."""
    token = _a_key_of_its_own(hasty)
    hasty.sandbox.set_fault("status", code=429, retry_after=said)
    answer = hasty.order(token=token)
    found = about_order(hasty, answer, 429, "upstream-throttled", "not_placed", token=token)
    least, most = RETRY_AFTER[said]
    assert least <= int(answer.headers["retry-after"]) <= most
    assert found["upstream"]["status"] == 429
    assert len(hasty.calls) == 1


def test_429_upstream_throttled_until_a_date(hasty: World) -> None:
    token = _a_key_of_its_own(hasty)
    hasty.sandbox.set_fault("status", code=429, retry_after=formatdate(time.time() + 600, usegmt=True))
    answer = hasty.order(token=token)
    about_order(hasty, answer, 429, "upstream-throttled", "not_placed", token=token)
    assert 1 <= int(answer.headers["retry-after"]) <= 600


def test_429_upstream_throttled_with_an_empty_body(hasty: World) -> None:
    token = _a_key_of_its_own(hasty)
    hasty.sandbox.set_fault("status", code=429, body="", content_type="", retry_after=1)
    answer = hasty.order("throttled", token=token, notes="same")
    about_order(hasty, answer, 429, "upstream-throttled", "not_placed", token=token)
    wait_until(
        lambda: hasty.order("throttled", token=token, notes="same").status_code == 201,
        "not placed: the same key is tried again",
    )
    again = hasty.order("throttled", token=token, notes="same")
    assert again.headers["ordergate-order-id"] == answer.headers["ordergate-order-id"]
    assert len(hasty.placed) == 1


def test_429_upstream_throttled_for_everybody_who_shares_the_key(hasty: World) -> None:
    first = _a_key_of_its_own(hasty)
    team = next(name for name, token in hasty.tokens.items() if token == first)
    second = hasty.token_of(f"{team}-too", team=team)
    hasty.sandbox.set_fault("status", code=429, retry_after=600)
    hasty.order(token=first)
    answer = hasty.order(token=second)
    refused = about_order(hasty, answer, 429, "upstream-throttled", "not_placed", known=False)
    assert "upstream" not in refused
    assert 500 <= int(answer.headers["retry-after"]) <= 600
    assert hasty.order(token=_a_key_of_its_own(hasty)).status_code == 201, "another team's key is another matter"
    assert len(hasty.calls) == 2


def test_429_upstream_throttled_is_waited_for_where_it_fits(world: World) -> None:
    world.sandbox.set_fault("status", code=429, retry_after=1)
    answer = world.order()
    assert answer.status_code == 201
    shown = world.shown(answer.headers["ordergate-order-id"])
    assert [(attempt["evidence"], attempt["status"]) for attempt in shown["attempts"]] == [
        ("answered", 429), ("answered", 201),
    ]  # fmt: skip
    first, second = world.calls
    assert second.received.monotonic_ns - first.received.monotonic_ns >= 1_000_000_000


UNKNOWN: Final[dict[str, dict[str, Any]]] = {
    "reset_after_headers": {"kind": "reset_after_headers"},
    "reset_after_read": {"kind": "reset_after_read"},
    "place_then_reset": {"kind": "place_then_reset"},
    "place_then_500": {"kind": "place_then_500"},
    "place_late": {"kind": "place_late", "after_s": 0.05},
    "status_then_place": {"kind": "status_then_place"},
    "truncate": {"kind": "truncate"},
    "truncate to nothing": {"kind": "truncate", "size": 0},
    "wrong_length": {"kind": "wrong_length"},
    "garbage": {"kind": "garbage"},
    "garbage, left open": {"kind": "garbage", "close": False},
    "closed without an answer": {"kind": "garbage", "body": ""},
    "two lengths": {"kind": "garbage", "body": "HTTP/1.1 201 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"},
    "bad chunks": {"kind": "garbage", "body": "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"},
    "switching protocols": {"kind": "garbage", "body": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"},
    "huge": {"kind": "huge", "size": 2_000_000},
    "huge header": {"kind": "huge", "size": 2_000_000, "where": "header"},
    "huge chunked": {"kind": "huge", "size": 2_000_000, "where": "chunked"},
    "gzip_bomb": {"kind": "gzip_bomb", "size": 1_000_000},
    "1xx_flood": {"kind": "1xx_flood"},
    "html_4xx": {"kind": "html_4xx"},
    "html 400": {"kind": "html_4xx", "code": 400},
    "html 401": {"kind": "html_4xx", "code": 401},
    "html 403": {"kind": "html_4xx", "code": 403},
    "html 429": {"kind": "html_4xx", "code": 429},
    "a list in a 400": {"kind": "status", "code": 400, "body": [1]},
    "a 404 without a body": {"kind": "status", "code": 404, "body": "", "content_type": ""},
    "a duplicate member in a 400": {"kind": "status", "code": 400, "body": '{"a":1,"a":2}'},
    "bad UTF-8 in a 400": {"kind": "status", "code": 400, "body_base64": "eyJhIjoi/yJ9"},
    "408": {"kind": "status", "code": 408},
    "500": {"kind": "status", "code": 500},
    "502": {"kind": "status", "code": 502, "body": "<html>", "content_type": "text/html"},
    "503": {"kind": "status", "code": 503, "retry_after": 5},
    "599": {"kind": "status", "code": 599},
    "600": {"kind": "status", "code": 600},
    "301": {"kind": "redirect", "code": 301},
    "302": {"kind": "redirect", "code": 302},
    "307": {"kind": "redirect", "code": 307},
    "308": {"kind": "redirect", "code": 308},
    "304": {"kind": "status", "code": 304},
    "204": {"kind": "status", "code": 204, "place": True},
    "200 without orderId": {"kind": "status", "code": 200, "body": {"id": "1"}, "place": True},
    "201 with orderId 5": {"kind": "status", "code": 201, "body": {"orderId": 5}, "place": True},
    "201 with an empty orderId": {"kind": "status", "code": 201, "body": {"orderId": ""}, "place": True},
    "201 with two orderIds": {"kind": "status", "code": 201, "body": '{"orderId":"a","orderId":"b"}', "place": True},
    "201 with a list": {"kind": "status", "code": 201, "body": [{"orderId": "a"}], "place": True},
    "201 that is empty": {"kind": "status", "code": 201, "body": "", "place": True},
    "201 with bad UTF-8": {"kind": "status", "code": 201, "body_base64": "eyJvcmRlcklkIjoi/yJ9", "place": True},
    "201 with NaN": {"kind": "status", "code": 201, "body": '{"orderId":"a","n":NaN}', "place": True},
}  # fmt: skip


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
def test_502_outcome_unknown(world: World, fault: dict[str, Any]) -> None:
    world.sandbox.set_fault(**fault)
    answer = world.order("unknown" + json.dumps(fault).replace(" ", "")[:200], notes="same")
    found = about_order(world, answer, 502, "outcome-unknown", "unknown")
    assert UPSTREAM_KEY not in answer.text
    shown = world.shown(found["orderId"])
    assert len(shown["attempts"]) == len(world.calls) == 1, "doubt is never sent again"
    # Asked again: the same doubt, and nothing is sent.
    again = world.order("unknown" + json.dumps(fault).replace(" ", "")[:200], notes="same")
    assert problem_like(again, answer)
    assert len(world.calls) == 1


def problem_like(again: Any, first: Any) -> bool:
    """The same document; it is not called a replay, since it may change yet."""
    return (
        (again.status_code, again.content) == (first.status_code, first.content)
        and int(again.headers["retry-after"]) >= 1
        and "idempotent-replayed" not in again.headers
    )


def test_502_outcome_unknown_when_a_kept_connection_is_reset(world: World) -> None:
    """The reset comes as an answer to the order's bytes: some may have been read."""
    assert world.order().status_code == 201
    world.sandbox.set_fault("reset_before_read")
    answer = world.order()
    if answer.status_code != 201:  # on a fresh connection the reset comes before anything is sent
        about_order(world, answer, 502, "outcome-unknown", "unknown")


@pytest.mark.parametrize("fault", [
    {"kind": "place_then_hang"}, {"kind": "stop_reading"}, {"kind": "trickle", "every_s": 0.05},
    {"kind": "trickle", "every_s": 0.05, "where": "body"},
])  # fmt: skip
def test_504_outcome_unknown(hasty: World, fault: dict[str, Any]) -> None:
    hasty.sandbox.set_fault(**fault)
    answer = hasty.order()
    found = about_order(hasty, answer, 504, "outcome-unknown", "unknown")
    assert [attempt["evidence"] for attempt in hasty.shown(found["orderId"])["attempts"]] == ["sent"]
    assert len(hasty.calls) == 1
    assert hasty.order().status_code == 201, "its place is free again"


PLACED: Final[dict[str, dict[str, Any]]] = {
    "extra_bytes": {"kind": "extra_bytes"},
    "early_answer": {"kind": "early_answer"},
    "idle_close": {"kind": "idle_close"},
    "200": {"kind": "status", "code": 200, "body": '{"orderId":"{orderId}"}', "place": True},
    "299": {"kind": "status", "code": 299, "body": '{"orderId":"{orderId}","n":1e999}', "place": True},
    "few interim answers": {"kind": "1xx_flood", "size": 10},
    "odd spelling": {
        "kind": "status",
        "code": 201,
        "body": ' {"n": 1.50, "orderId" : "{orderId}" }\n',
        "place": True,
    },
}


@pytest.mark.parametrize("fault", PLACED.values(), ids=PLACED)
def test_201_whatever_the_connection_does(world: World, fault: dict[str, Any]) -> None:
    """Success is 201 with OfferGrid's own bytes, and the next order gets an answer of its own."""
    world.sandbox.set_fault(**fault)
    key = "placed" + json.dumps(fault).replace(" ", "")
    answer = world.order(key, notes="same")
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert world.calls[0].answer is None or answer.content == world.calls[0].answer.body
    assert answer.json()["orderId"] == world.placed[0].order_id
    again = world.order(key, notes="same")
    assert (again.status_code, again.content) == (201, answer.content)
    assert again.headers["idempotent-replayed"] == "true"
    if fault["kind"] in ("early_answer", "idle_close"):
        # What crosses the next request on the wire cannot be told from its answer; what came before it can.
        (log,) = [log for log in world.sandbox.connections if log.number == world.calls[0].connection]
        wait_until(lambda: log.closed is not None, "the end of the connection")
    second = world.order()
    assert second.json()["orderId"] == world.placed[1].order_id != world.placed[0].order_id


def test_key_that_is_echoed_is_masked(world: World) -> None:
    world.sandbox.set_fault("echo_key")
    answer = world.order()
    found = about_order(world, answer, 400, "order-rejected", "rejected")
    assert "***" in json.dumps(found["upstream"])
    shown = world.ask("GET", answer.headers["location"])
    for told in (answer, shown):
        assert UPSTREAM_KEY not in told.text + str(told.headers)
