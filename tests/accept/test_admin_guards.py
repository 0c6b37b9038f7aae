"""Every route of the admin listener, asked by everybody who may not. The routes are the router's own: a new one without
a row in the table fails here.
"""

import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import httpx
import pytest

from gateway.broker.vault import Secret
from gateway.telemetry.metrics import Metrics
from gateway.web.admin_app import admin_router
from gateway.web.admin_openapi import admin_document
from gateway.web.admin_operation import BodyLimits
from tests.accept.operators import JSON, KEY, TABLE, Ground, Row, ask, grounds, state
from tests.accept.world import World, problem, refused

OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
NO_JSON: Final[Mapping[str, str | None]] = {
    "none": None,
    "text/plain": "text/plain",
    "text/plain that looks like it": "text/plain; charset=application/json",
    "form": "application/x-www-form-urlencoded",
    "form of a file": "multipart/form-data; boundary=x",
    "almost": "application/json5",
    "two": "text/plain, application/json",
    "latin": "application/json; charset=latin-1",
}
FOREIGN: Final[Mapping[str, dict[str, str]]] = {
    "site": {"origin": "https://evil.example"},
    "sandboxed page": {"origin": "null"},
    "same name, other port": {"origin": "http://127.0.0.1:1"},
    "name that points here": {"host": "evil.example"},
    "name that points here, with its own pages": {
        "host": "evil.example:8081",
        "origin": "http://evil.example:8081",
    },
    "our name below theirs": {"host": "localhost.evil.example"},
}


def routes() -> list[tuple[str, str]]:
    """Every method and path that the router knows, but the OPTIONS that it adds to each by itself."""
    nothing: Any = None
    limits = BodyLimits(max_bytes=1, timeout_s=1)
    metrics = Metrics(version="", spec_digest="")
    router = admin_router(admin_document(metrics_token=False), metrics, list, nothing, limits, nothing)
    return sorted(
        (method, route.path_format) for route in router.routes for method in _methods(route) if method != "OPTIONS"
    )


def _methods(route: Any) -> list[str]:
    found: list[str] = sorted(route.methods)
    return found


ROUTES: Final = routes()
CHANGES: Final = [route for route in ROUTES if TABLE.get(route, Row()).body is not None]
GUARDED: Final = [route for route in ROUTES if route[1] not in OPEN]


@pytest.fixture(scope="session")
def ground(patient_world: World) -> Ground:
    return grounds(patient_world)


def asked(world: World, ground: Ground, route: tuple[str, str], **options: Any) -> httpx.Response:
    """The row's good request, with whatever is wrong in `options`."""
    row = TABLE[route]
    query = row.query.format(**ground.names)
    path = (
        ground.path(route[1], **options.pop("instead", {})) + options.pop("path_end", "") + (query and f"?{query}")
    )
    return ask(world, route[0], path, options.pop("body", ground.body(row)), **options)


def learns_nothing(answer: httpx.Response, ground: Ground) -> None:
    told = answer.text + str(answer.headers)
    assert not [canary for canary in ground.canaries if canary in told], told


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert sorted(TABLE) == ROUTES


def test_what_is_described_is_what_is_routed(world: World) -> None:
    described = ask(world, "GET", "/openapi.json").json()["paths"]
    assert sorted((method.upper(), path) for path, found in described.items() for method in found) == ROUTES


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_without_the_admin_token_nothing_is_done_and_nothing_is_told(
    world: World, ground: Ground, route: tuple[str, str]
) -> None:
    before = state(world)
    own = world.stack.admin_token
    shown = ["", "wrong", own[:-1], own + "0", own.upper(), world.stack.token, ground.token, KEY + "-1", "0" * 64]
    answers = [asked(world, ground, route, token=token) for token in shown]
    answers += [
        asked(world, ground, route, token="", **{"x-api-key": ground.token}),
        asked(world, ground, route, token="", authorization=f"Basic {own}"),
        asked(world, ground, route, token="", authorization=own),
        asked(world, ground, route, token="", cookie=f"token={own}"),
    ]
    for answer in answers:
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        learns_nothing(answer, ground)
    whole = {json.dumps({**answer.json(), "requestId": ""}) for answer in answers}
    assert len(whole) == 1, "missing, wrong and foreign tokens are told alike"
    assert state(world) == before


def test_many_wrong_tokens_are_counted_told_now_and_then_and_lock_nobody_out(world: World) -> None:
    def counted() -> float:
        told = ask(world, "GET", "/metrics").text
        return float(told.partition('auth_failures_total{reason="wrong_secret"} ')[2].partition("\n")[0])

    before = counted()
    for number in range(1000):
        answer = world.operator.get("/admin/teams", headers={"authorization": f"Bearer guess-{number}"})
        assert answer.status_code == 401
    assert counted() == before + 1000
    assert ask(world, "GET", "/admin/teams").status_code == 200
    said = [line for line in world.stack.process.log if line["event"] == "refused"]
    assert {(line["level"], line["listener"]) for line in said} == {("warning", "admin")}
    moments = [datetime.fromisoformat(line["at"]) for line in said]
    assert all((later - earlier).total_seconds() > 59 for earlier, later in itertools.pairwise(moments))
    assert "guess" not in json.dumps(said)


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_the_token_in_the_path_opens_nothing(world: World, ground: Ground, route: tuple[str, str]) -> None:
    row = TABLE[route]
    for name in ("token", "access_token", "authorization"):
        query = f"{name}={world.stack.admin_token}"
        path = ground.path(route[1]) + "?" + "&".join(filter(None, (row.query.format(**ground.names), query)))
        refused(ask(world, route[0], path, ground.body(row), token=""), 401, "unauthorized")


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_foreign_pages_and_names_are_refused_whatever_they_show(
    world: World, ground: Ground, route: tuple[str, str]
) -> None:
    before = state(world)
    for token, who in itertools.product((None, ""), FOREIGN):
        answer = asked(world, ground, route, token=token, **FOREIGN[who])
        refused(answer, 403, "forbidden")
        learns_nothing(answer, ground)
        assert "access-control-allow-origin" not in answer.headers
    assert state(world) == before


@pytest.mark.parametrize("route", CHANGES, ids=" ".join)
def test_a_change_that_is_not_json_is_refused(world: World, ground: Ground, route: tuple[str, str]) -> None:
    before = state(world)
    content = json.dumps(ground.body(TABLE[route])).encode()
    for body, kind in itertools.product((content, b"", b"team=x&key=y"), NO_JSON):
        answer = asked(world, ground, route, kind=NO_JSON[kind], content=body)
        refused(answer, 415, "unsupported-media-type")
    assert state(world) == before


@pytest.mark.parametrize("route", CHANGES, ids=" ".join)
def test_bodies_have_one_reading_a_limit_and_no_member_that_nobody_asked_for(
    world: World, ground: Ground, route: tuple[str, str]
) -> None:
    before = state(world)
    good = ground.body(TABLE[route])
    refused(asked(world, ground, route, **{"content-encoding": "gzip"}), 415, "unsupported-media-type")
    refused(asked(world, ground, route, accept="text/html"), 406, "not-acceptable")
    twice = b'{"x~/y":1,"x~/y":2}'
    for content in (b"[]", b"null", b"{", b"\xff", twice, b"{}{}", b" ", b'{"a":' + b"[" * 70 + b"]" * 70 + b"}"):
        refused(asked(world, ground, route, content=content), 400, "bad-request")
    refused(asked(world, ground, route, content=b"{" + b" " * 262_144 + b"}"), 413, "body-too-large")
    told = refused(asked(world, ground, route, body={**good, "x~/y": KEY}), 400, "bad-request")
    assert [fault["pointer"] for fault in told["errors"]] == ["/x~0~1y"]
    for name in good:
        told = refused(asked(world, ground, route, body={**good, name: [[KEY]]}), 400, "bad-request")
        pointers = [fault["pointer"] for fault in told["errors"]]
        assert pointers, told
        assert all(pointer.startswith(f"/{name}") for pointer in pointers)
        assert KEY not in json.dumps(told)
    assert state(world) == before


@pytest.mark.parametrize("route", [route for route in ROUTES if route[1].startswith("/admin")], ids=" ".join)
def test_queries_hold_what_the_operation_names_once(world: World, ground: Ground, route: tuple[str, str]) -> None:
    before = state(world)
    known = TABLE[route].query
    for more in ("x=1", f"{known}&{known}" if known else "x=1&x=1", f"{known}&__proto__=1"):
        path = ground.path(route[1]) + "?" + more.format(**ground.names)
        refused(ask(world, route[0], path, ground.body(TABLE[route])), 400, "bad-request")
    assert state(world) == before


UNKNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "team": ("no-such-team", "Team", "..", "1", "x" * 300),
    "keyId": ("key-000000000000", "1"),
    "tenant": ("no-such-tenant", "Shop", "x" * 300),
    "tokenId": ("aaaaaaaaaa", "1"),
    "orderId": ("00000000-0000-7000-8000-000000000000", "1", "x" * 36, "x" * 300),
    "type": ("no-such-type",),
}


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route[1]], ids=" ".join)
def test_what_is_not_there_is_not_found(world: World, ground: Ground, route: tuple[str, str]) -> None:
    before = state(world)
    for name in (name for name in UNKNOWN if "{" + name + "}" in route[1]):
        for value in UNKNOWN[name]:
            refused(asked(world, ground, route, instead={name: value}), 404, "not-found")
    assert state(world) == before


@pytest.mark.parametrize("route", [route for route in ROUTES if "{keyId}" in route[1]], ids=" ".join)
def test_a_key_of_another_team_is_not_there(world: World, ground: Ground, route: tuple[str, str]) -> None:
    before = state(world)
    refused(asked(world, ground, route, instead={"keyId": ground.other_key}), 404, "not-found")
    refused(asked(world, ground, route, instead={"team": "team"}), 404, "not-found")
    assert state(world) == before


def test_a_whole_token_in_a_path_is_refused_and_not_repeated(world: World, ground: Ground) -> None:
    answer = ask(world, "DELETE", f"/admin/tokens/{ground.token}")
    told = refused(answer, 400, "bad-request")
    assert ground.names["tokenId"] in told["detail"]
    assert ground.token not in answer.text


@pytest.mark.parametrize(
    "typed", ["", "short", "two\nlines-of-canary", "with a blank canary", "käy-canary-0123", 5]
)
def test_what_cannot_be_a_key_is_not_repeated(world: World, ground: Ground, typed: object) -> None:
    answer = ask(world, "POST", ground.path("/admin/teams/{team}/keys"), {"key": typed})
    told = refused(answer, 400, "bad-request")
    assert [fault["pointer"] for fault in told["errors"]] == ["/key"]
    assert "canary" not in answer.text


def test_operations_are_counted_by_what_they_are_about(world: World, ground: Ground) -> None:
    """Whatever is asked of any of them, and answered: there are fewer than 1,500 series beside the tenants'."""
    for route in ROUTES:
        for options in ({}, {"token": ""}, {"origin": "http://evil.example"}, {"kind": "text/plain"}):
            if options or route[0] == "GET":
                asked(world, ground, route, **options)
        asked(world, ground, route, body={"y": 1}, instead=dict.fromkeys(ground.names, "x"))
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"):
            ask(world, method, ground.path(route[1]), kind="text/plain")
    lines = [line for line in ask(world, "GET", "/metrics").text.splitlines() if not line.startswith("#")]
    counted = {
        line.partition('route="')[2].partition('"')[0]
        for line in lines
        if line.startswith("ordergate_http_requests_total") and 'listener="admin"' in line
    }
    wanted = {"/".join(path.split("/")[:3]) if path.startswith("/admin") else path for _, path in ROUTES}
    assert counted <= wanted | {"_none"}
    assert {"/admin/teams", "/admin/tenants", "/admin/tokens", "/admin/orders", "/admin/audit"} <= counted
    assert len([line for line in lines if 'tenant="' not in line]) < 1_500


def test_answers_are_neither_kept_nor_framed_nor_sniffed(world: World, ground: Ground) -> None:
    answer = ask(world, "GET", ground.path("/admin/teams/{team}/keys"))
    assert answer.headers["content-type"] == JSON
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_no_secret_is_told_counted_or_logged(world: World, ground: Ground) -> None:
    """After all that was asked here: no key and no token stands in any list, in the metrics or in the log."""
    secret = [KEY, ground.token.rpartition("_")[2], world.stack.admin_token]
    ask(world, "POST", ground.path("/admin/teams/{team}/keys"), {"key": KEY, "kye": KEY})
    looks = [path for method, path in ROUTES if method == "GET"]
    seen = [asked(world, ground, ("GET", path)).text for path in looks]
    seen.append(json.dumps(world.stack.process.log))
    assert "request" in seen[-1], "the log tells of requests"
    for text in seen:
        assert not [word for word in secret if word in text]
    assert Secret(KEY) != Secret(world.stack.admin_token)


def test_409_conflict_what_is_there_already_or_still_in_use(world: World, ground: Ground) -> None:
    before = state(world)
    for path, body in (
        ("/admin/teams", {"team": ground.names["team"]}),
        ("/admin/tenants", {"tenant": ground.names["tenant"], "team": ground.names["team"]}),
    ):
        told = problem(ask(world, "POST", path, body), 409, "conflict")
        assert "exists already" in told["detail"]
    told = problem(ask(world, "DELETE", ground.path("/admin/teams/{team}")), 409, "conflict")
    assert "has tenants" in told["detail"]
    told = problem(ask(world, "DELETE", ground.path("/admin/tenants/{tenant}")), 409, "conflict")
    assert "nobody is sure of" in told["detail"]
    assert state(world) == before
