"""Rows 1 to 4: the gateway cannot connect, or not to OfferGrid. Nothing is sent, and every answer says so."""

import datetime
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trustme

from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.front import Front
from tests.support.names import Names
from tests.support.scene import Scene, a_scene, for_one_case
from tests.support.stack import UPSTREAM_KEY
from tests.upstream.wire import Peer

NAME: Final = "offergrid.test"
ELSEWHERE: Final = "127.0.0.2"


@row(
    1,
    fault="OfferGrid's port is closed",
    answer="503 upstream-unavailable; not_placed",
    holds="three attempts, none of them sent a byte; the same key is placed once the port is open",
)
def test_row_01_port_is_closed(road: Scene) -> None:
    road.front.close_port()
    road.front.cut()
    want = road.want()
    order_id = road.is_unavailable(road.send(want))
    assert len(road.attempts(order_id)) == 3
    assert not road.posts
    road.front.open_port()
    road.is_tried_again(want, order_id)


@row(
    1, part="open again between two attempts", answer="201; placed", holds="sent once, after attempts that were not"
)
def test_row_01_port_opens_between_two_attempts(road: Scene) -> None:
    def newest() -> tuple[str | None, int]:
        found: list[Any] = road.client.get("/orders?limit=1").json()["orders"]
        return (found[0]["orderId"], len(found[0]["attempts"])) if found else (None, 0)

    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):  # until the port opens in time on a machine that has other things to do
            road.front.close_port()
            road.front.cut()
            road.begin()
            want, (earlier, _) = road.want(), newest()
            answer = pool.submit(road.send, want)
            wait_until(lambda: newest()[1] >= 2 and newest()[0] != earlier, "a second attempt")  # noqa: B023 - awaited here
            road.front.open_port()
            if answer.result().status_code == 201:
                break
    road.is_placed(want, answer.result())
    *before, last = road.attempts(answer.result().headers["ordergate-order-id"])
    assert before and set(before) == {("not_sent", None)}
    assert last == ("answered", 201)
    assert len(road.posts) == 1


@row(
    2,
    fault="OfferGrid's host swallows every attempt to connect",
    answer="503 upstream-unavailable; not_placed",
    holds="each attempt is given up after connect_timeout_s, and none begins with less than half of the time left",
)
def test_row_02_connecting_is_swallowed(hasty: Scene) -> None:
    hasty.front.swallow()
    hasty.front.cut()
    accepted = hasty.front.accepted
    want = hasty.want()
    order_id = hasty.is_unavailable(hasty.send(want))
    # 0.3 s each and a pause of 0.05 s: after two, less than half of the one second is left.
    assert len(hasty.attempts(order_id)) == 2
    assert all(took_ms(attempt) >= 290 for attempt in hasty.view(order_id)["attempts"])
    assert hasty.front.accepted == accepted
    hasty.front.open_port()
    hasty.is_tried_again(want, order_id)


@row(
    2,
    part="again and again",
    answer="503 upstream-unavailable; not_placed",
    holds="the breaker opens: further orders are refused at once and leave no trace, until OfferGrid answers again",
)
def test_row_02_breaker_opens() -> None:
    with a_scene(
        upstream__timeout_s=1,
        upstream__connect_timeout_s=0.3,
        upstream__breaker_failures=2,
        upstream__breaker_open_s=0.5,
    ) as scene:
        scene.begin()
        scene.front.swallow()
        want, other = scene.want(), scene.want()
        order_id = scene.is_unavailable(scene.send(want))
        attempts = scene.metric("ordergate_upstream_attempt_duration_seconds_count", operation="place")
        answer = scene.send(other)
        refused = answer.json()
        assert (answer.status_code, refused["type"]) == (503, "/problems/upstream-unavailable")
        assert (refused["outcome"], refused["retryable"]) == ("not_placed", True)
        assert "orderId" not in refused
        assert int(answer.headers["retry-after"]) >= 1
        assert scene.metric("ordergate_upstream_attempt_duration_seconds_count", operation="place") == attempts
        scene.front.open_port()
        wait_until(lambda: scene.send(other).status_code == 201, "OfferGrid answers again")
        scene.is_tried_again(want, order_id)
        scene.end()


def took_ms(attempt: dict[str, str]) -> float:
    began, ended = (datetime.datetime.fromisoformat(attempt[name]) for name in ("startedAt", "endedAt"))
    return (ended - began).total_seconds() * 1000


class Tls(msgspec.Struct, kw_only=True):
    """An OfferGrid with a name and a certificate. `plan` says what each new connection meets; at its end, and
    without one, the good certificate. None is no TLS at all."""

    scene: Scene
    names: Names
    authority: trustme.CA
    plan: list[ssl.SSLContext | None]

    def certified(self, name: str = NAME, by: trustme.CA | None = None, **dates: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (by or self.authority).issue_cert(name, **dates).configure_cert(context)
        return context

    def begin(self) -> None:
        good = self.certified()
        self.names.say(NAME, ["127.0.0.1"])
        self.scene.front.tls = lambda: self.plan.pop(0) if self.plan else good

    def is_unavailable(self, want: Any) -> str:
        """Three attempts, and at nobody's connection a byte of an order."""
        spoken = len(self.scene.front.peers)
        order_id = self.scene.is_unavailable(self.scene.send(want))
        assert len(self.scene.attempts(order_id)) == 3
        for peer in self.scene.front.peers[spoken:]:
            assert_only_a_greeting(peer)
        assert not self.scene.posts
        return order_id


def assert_only_a_greeting(peer: Peer) -> None:
    """The beginning of a TLS handshake, and nothing that only OfferGrid may see."""
    assert peer.received.startswith(b"\x16\x03")
    assert UPSTREAM_KEY.encode() not in peer.received
    assert b"x-api-key" not in peer.received
    assert b"fullName" not in peer.received


@pytest.fixture(scope="module")
def tls_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder: Path = tmp_path_factory.mktemp("names")
    authority, names = trustme.CA(), Names(folder)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    environ = {**names.environ, "SSL_CERT_FILE": str(folder / "authority.pem")}
    with a_scene(host=NAME, environ=environ, upstream__timeout_s=5) as scene:
        yield Tls(scene=scene, names=names, authority=authority, plan=[])


@pytest.fixture
def tls(tls_scene: Tls) -> Iterator[Tls]:
    for _ in for_one_case(tls_scene.scene):
        tls_scene.begin()
        tls_scene.scene.front.cut()
        yield tls_scene
        tls_scene.plan.clear()
        tls_scene.begin()


@row(
    3,
    fault="OfferGrid's name has no address",
    answer="503 upstream-unavailable; not_placed",
    holds="three attempts, no connection to anybody; the same key is placed once the name has one",
)
@row(3, part="the resolver gives an empty list")
@pytest.mark.parametrize("addresses", [None, []], ids=["no such name", "empty"])
def test_row_03_name_has_no_address(tls: Tls, addresses: list[str] | None) -> None:
    tls.names.say(NAME, addresses)
    accepted = tls.scene.front.accepted
    want = tls.scene.want()
    order_id = tls.is_unavailable(want)
    assert tls.scene.front.accepted == accepted
    tls.begin()
    tls.scene.is_tried_again(want, order_id)


@row(
    3,
    part="the name now leads to another server on this machine",
    answer="503 upstream-unavailable; not_placed",
    holds="it sees the beginning of a handshake, neither key nor order, whether it speaks TLS or not",
)
@pytest.mark.parametrize("speaks_tls", [True, False], ids=["a certificate of its own", "no TLS"])
def test_row_03_name_leads_elsewhere(tls: Tls, speaks_tls: bool) -> None:
    stranger = tls.certified(by=trustme.CA())

    async def claims_to_have_taken_it(peer: Peer) -> None:
        await peer.read()
        await peer.send(b'HTTP/1.1 201 Created\r\ncontent-length: 17\r\n\r\n{"orderId":"ord"}')
        await peer.read_to_end()

    with Front(tls.scene.sandbox.port, host=ELSEWHERE, port=tls.scene.front.port) as impostor:
        impostor.always(claims_to_have_taken_it)
        impostor.tls = lambda: stranger if speaks_tls else None
        tls.names.say(NAME, [ELSEWHERE])
        want = tls.scene.want()
        order_id = tls.is_unavailable(want)
        assert impostor.accepted == 3
        assert len(impostor.peers) == (0 if speaks_tls else 3)
        for peer in impostor.peers:
            assert_only_a_greeting(peer)
        tls.begin()
        tls.scene.is_tried_again(want, order_id)


PAST: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
BAD: Final[Mapping[str, Callable[[Tls], ssl.SSLContext | None]]] = {
    "expired": lambda tls: tls.certified(not_before=PAST, not_after=PAST + datetime.timedelta(days=1)),
    "another name": lambda tls: tls.certified("offergrid.example"),
    "unknown issuer": lambda tls: tls.certified(by=trustme.CA()),
}


@row(
    4,
    fault="OfferGrid's certificate has expired, has another name, or comes from nobody known",
    answer="503 upstream-unavailable; not_placed",
    holds="no byte of the key or the order goes out; the same key is placed once the certificate is good",
)
@pytest.mark.parametrize("name", BAD)
def test_row_04_certificate_is_not_offergrids(tls: Tls, name: str) -> None:
    bad = BAD[name](tls)
    tls.plan[:] = [bad] * 3
    spoken = len(tls.scene.front.peers)
    want = tls.scene.want()
    order_id = tls.is_unavailable(want)
    assert not tls.plan, "each attempt met it"
    assert len(tls.scene.front.peers) == spoken, "nobody got as far as to speak"
    tls.scene.is_tried_again(want, order_id)


@row(
    4, part="one handshake is broken off, the next is good", answer="201; placed", holds="sent once, by the second"
)
def test_row_04_handshake_is_broken_off(tls: Tls) -> None:
    async def breaks_off(peer: Peer) -> None:
        await peer.read()
        peer.reset()

    tls.plan[:] = [None]
    tls.scene.front.next_at_all(breaks_off)
    spoken = len(tls.scene.front.peers)
    want = tls.scene.want()
    answer = tls.scene.send(want)
    tls.scene.is_placed(want, answer)
    assert tls.scene.attempts(answer.headers["ordergate-order-id"]) == [("not_sent", None), ("answered", 201)]
    assert_only_a_greeting(tls.scene.front.peers[spoken])
    assert len(tls.scene.posts) == 1
