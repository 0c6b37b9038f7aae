"""Reading listings for a rejoin: twice, the one that counts late enough, and any doubt about any team ends it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.clock import SystemClock
from gateway.core.budget import Shortage
from gateway.core.budget_terms import Terms
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.flow.rejoin import MAX_PAGES, ListingsInDoubt, Looks, TeamOrders, TeamToRead

ID = "01890a5d-ac96-774b-bcce-b30209900000"


def order(number: int, **metadata: Any) -> dict[str, Any]:
    own = {
        "gatewayOrderId": f"{ID[:-1]}{number}",
        "gatewayTenant": "shop",
        "gatewayReceivedAt": "2026-01-02T03:04:05.678Z",
        "gatewayClaim": f".{'cd' * 32}",
        "gatewayLedger": "mine",
    }
    return {"orderId": f"up-{number}", "metadata": {**own, **metadata}}


def answered(*orders: dict[str, Any], status: int = 200, link: str | None = None) -> Answered:
    return Answered(
        status=status,
        body=json.dumps(orders).encode(),
        content_type="application/json",
        retry_after=None,
        link=link,
    )


class Upstream:
    """Answers each team's key with its answers, one after the other; the last one stays."""

    def __init__(self, **answers: list[Evidence]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def list_orders(
        self, *, key: Secret, deadline: float, page: str | None = None, spent_bytes: int = 0
    ) -> Evidence:
        assert deadline > 0 and (page is None) == (spent_bytes == 0)
        name = next(name for name in self.answers if Secret(name) == key)
        self.asked.append(name)
        left = self.answers[name]
        return left.pop(0) if len(left) > 1 else left[0]


def team(name: str, *witnesses: int, **options: Any) -> TeamToRead:
    return TeamToRead(
        team_id=ord(name[0]),
        name=name,
        key=options.get("key", LentKey(key_id=f"key-{name}", secret=Secret(name))),
        witnesses=tuple((f"{ID[:-1]}{number}", f"up-{number}") for number in witnesses),
    )


class AllReads:
    """A reserve without an end."""

    async def take_read(self, terms: Terms) -> Shortage | None:
        assert terms.key_id
        return None

    async def pause_key(self, key_id: str, pause_s: int) -> None: ...


def read(
    upstream: Upstream, *teams: TeamToRead, wait_ms: Callable[[], int] = lambda: 0, said: list[str] | None = None
) -> list[TeamOrders]:
    looks = Looks(
        upstream=upstream,
        reads=AllReads(),
        ledger_id="mine",
        clock=SystemClock(),
        wait_ms=wait_ms,
        say=(said if said is not None else []).append,
    )
    return asyncio.run(looks.read(teams))


def in_doubt(upstream: Upstream, *teams: TeamToRead) -> str:
    with pytest.raises(ListingsInDoubt) as caught:
        read(upstream, *teams)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_every_teams_own_orders_are_read_and_others_are_counted() -> None:
    upstream = Upstream(a=[answered(order(1), order(2, gatewayLedger="theirs"), {"orderId": "x"})], b=[answered()])
    first, second = read(upstream, team("a", 1), team("b"))
    assert [one.upstream_order_id for one in first.own] == ["up-1"]
    assert (first.name, first.listed, first.foreign) == ("a", 3, 1)
    assert (second.name, second.own, second.listed) == ("b", (), 0)


def test_the_listing_that_counts_is_read_after_the_wait() -> None:
    upstream = Upstream(a=[answered(order(1)), answered(order(2), order(1))])
    left, said = [20, 10, 0], list[str]()
    looked_at: list[int] = []

    def wait_ms() -> int:
        looked_at.append(len(upstream.asked))
        return left.pop(0)

    (found,) = read(upstream, team("a", 1), wait_ms=wait_ms, said=said)
    assert [one.upstream_order_id for one in found.own] == ["up-1", "up-2"]
    assert looked_at == [1, 1, 1] and len(upstream.asked) == 2
    assert len([line for line in said if line.startswith("waiting 1 s")]) == 2


def test_further_pages_are_read_too() -> None:
    first, last = answered(order(2), link='<?page=2>; rel="next"'), answered(order(1))
    upstream = Upstream(a=[first, last, first, last])
    (found,) = read(upstream, team("a", 1))
    assert ([one.upstream_order_id for one in found.own], found.listed) == (["up-1", "up-2"], 2)
    assert len(upstream.asked) == 4


def test_a_listing_without_an_end_is_in_doubt() -> None:
    upstream = Upstream(a=[answered(order(1), link='<?page=2>; rel="next"')])
    assert "not all of its orders" in in_doubt(upstream, team("a"))
    assert len(upstream.asked) == MAX_PAGES


def test_what_the_first_look_saw_the_second_must_hold() -> None:
    upstream = Upstream(a=[answered(order(1), order(2)), answered(order(1))])
    assert in_doubt(upstream, team("a")) == f"team a: its listing lacks order {ID[:-1]}2, which it held before"


DOUBTS: dict[str, tuple[Evidence, str]] = {
    "not reached": (NotSent(reason="connect_refused"), "could not be read: connect_refused"),
    "too late": (Sent(reason="timeout"), "could not be read: timeout"),
    "refused": (answered(status=401), "answers 401 to key-a"),
    "a failure": (answered(order(1), status=500), "answers 500"),
    "no list": (Answered(status=200, body=b"[", content_type="", retry_after=None, link=None), "no listing"),
    "one page": (answered(order(1), link='</x>; rel="next", </y>; rel="next"'), "may be, not all"),
    "without a witness": (answered(order(2)), f"lacks order {ID[:-1]}1"),
    "a witness without metadata": (answered({"orderId": "up-1"}), f"lacks order {ID[:-1]}1"),
    "changed metadata": (answered(order(1), order(2, gatewayClaim="x")), "order up-2 at OfferGrid was changed"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("look", [0, 1])
def test_any_doubt_names_the_team(doubt: str, look: int) -> None:
    evidence, said = DOUBTS[doubt]
    good: Evidence = answered(order(1))
    upstream = Upstream(a=[good, evidence] if look else [evidence], b=[answered()])
    found = in_doubt(upstream, team("b"), team("a", 1))
    assert found.startswith("team a: ") and said in found and "\n" not in found


def test_every_team_in_doubt_is_named_at_once_and_nobody_waits() -> None:
    upstream = Upstream(a=[answered(status=500)], b=[answered()], c=[answered()])
    unreadable = KeyUnreadable(key_id="key-d")
    found = in_doubt(upstream, team("a"), team("b"), team("c", key=None), team("d", key=unreadable))
    assert [line.partition(":")[0] for line in found.splitlines()] == ["team a", "team c", "team d"]
    assert len(upstream.asked) == 2
