"""What there is: exactly the interface that is promised, described, for people and for machines; and who may ask."""

import re
from typing import Any, Final

import pytest

from gateway.web.described import problem_types
from tests.accept.raw import exchange, request
from tests.accept.world import World, a_world, refused

TENANT_ROUTES: Final = {
    "/orders": {"get", "post"}, "/reseller/orders": {"post"}, "/orders/{orderId}": {"get"}, "/healthz": {"get"},
    "/readyz": {"get"}, "/openapi.json": {"get"}, "/docs": {"get"}, "/problems/{type}": {"get"},
}  # fmt: skip
ADMIN_PAGES: Final = {
    "/metrics": {"get"}, "/healthz": {"get"}, "/readyz": {"get"}, "/openapi.json": {"get"}, "/docs": {"get"},
    "/problems/{type}": {"get"},
}  # fmt: skip
_KEY: Final = "/admin/teams/{team}/keys/{keyId}"
ADMIN_ROUTES: Final = {
    **ADMIN_PAGES,
    "/admin/teams": {"get", "post"}, "/admin/teams/{team}": {"delete"}, "/admin/teams/{team}/keys": {"get", "post"},
    f"{_KEY}/verify": {"post"}, f"{_KEY}/activate": {"post"}, f"{_KEY}/revoke": {"post"},
    "/admin/tenants": {"get", "post"}, "/admin/tenants/{tenant}": {"get", "delete"},
    "/admin/tenants/{tenant}/suspend": {"post"}, "/admin/tenants/{tenant}/resume": {"post"},
    "/admin/tenants/{tenant}/metadata": {"put"},
    "/admin/tokens": {"get", "post"}, "/admin/tokens/{tokenId}": {"delete"}, "/admin/apply": {"post"},
    "/admin/orders": {"get"}, "/admin/orders/{orderId}": {"get"}, "/admin/orders/{orderId}/resolve": {"post"},
    "/admin/orders/reconcile": {"post"}, "/admin/audit": {"get"}, "/admin/audit/verify": {"get"},
}  # fmt: skip
METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
HTML: Final = "text/html; charset=utf-8"


def _asked(world: World, listener: str, method: str, path: str) -> Any:
    if listener == "tenant":
        return world.ask(method, path)
    return world.admin(method, path)


@pytest.mark.parametrize(("listener", "promised"), [("tenant", TENANT_ROUTES), ("admin", ADMIN_ROUTES)])
def test_routes_are_those_described_are_those_promised(
    world: World, listener: str, promised: dict[str, set[str]]
) -> None:
    described = _asked(world, listener, "GET", "/openapi.json").json()
    assert {path: set(operations) for path, operations in described["paths"].items()} == promised
    for path, methods in promised.items():
        there = re.sub(r"\{\w+\}", "x", path.replace("{type}", "not-found"))
        for method in METHODS:
            answer = _asked(world, listener, method.upper(), there)
            assert (answer.status_code == 405) == (method not in methods), (method, path)
            if method in methods:
                documented = described["paths"][path][method]["responses"]
                assert str(answer.status_code) in documented
    for path in set(TENANT_ROUTES) ^ set(ADMIN_ROUTES) | {
        "/",
        "/admin",
        "/favicon.ico",
        "/static/x",
        "/schema",
        "/ws",
    }:
        if path not in promised:
            refused(_asked(world, listener, "GET", re.sub(r"\{\w+\}", "x", path)), 404, "not-found")


@pytest.mark.parametrize("listener", ["tenant", "admin"])
def test_description_is_whole(world: World, listener: str) -> None:
    described = _asked(world, listener, "GET", "/openapi.json").json()
    assert described["openapi"].startswith("3.1.")
    references = set(re.findall(r"'\$ref': '([^']+)'", str(described)))
    for reference in references:
        found: Any = described
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    used = {scheme for operation in operations for way in operation.get("security", ()) for scheme in way}
    assert used <= set(described["components"]["securitySchemes"])


@pytest.mark.parametrize("listener", ["tenant", "admin"])
def test_pages_need_no_internet_and_run_no_script(world: World, listener: str) -> None:
    for path in ("/docs", *(f"/problems/{name}" for name in problem_types())):
        answer = _asked(world, listener, "GET", path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, HTML)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script" not in answer.text
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
        for link in re.findall(r'href="([^"#]+)"', answer.text):
            assert _asked(world, listener, "GET", link).status_code == 200, link


def test_every_problem_has_a_page_that_names_its_statuses(world: World) -> None:
    for name, classes in problem_types().items():
        text = world.ask("GET", f"/problems/{name}").text
        assert all(str(found.status) in text for found in classes)


def test_no_version_or_server_is_told_where_nobody_asked(world: World) -> None:
    for answer in (world.ask("GET", "/nowhere"), world.ask("GET", "/healthz", token=""), world.order(items=1)):
        told = (answer.text + str(answer.headers)).lower()
        for word in ("uvicorn", "litestar", "python", "traceback", "sqlite", "msgspec", "0.1.0"):
            assert word not in told


OPEN: Final = {"/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize("path", [*ADMIN_PAGES, "/nowhere", "/admin/nowhere", "/orders"])
def test_admin_listener_asks_for_its_token(world: World, path: str) -> None:
    there = path.replace("{type}", "not-found")
    tokens = ["", "wrong", world.stack.token, world.stack.admin_token + "a", world.stack.admin_token[:-1]]
    for token in tokens:
        answer = world.admin("GET", there, token=token)
        if path in OPEN:
            assert answer.status_code == 200
        else:
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    known = path in ADMIN_PAGES
    assert world.admin("GET", there).status_code == (200 if known else 404)


def test_metrics_ask_for_the_token_where_it_is_set_so() -> None:
    with a_world(admin_api__metrics_token="true") as world:
        refused(world.admin("GET", "/metrics", token=""), 401, "unauthorized")
        refused(world.admin("GET", "/metrics", token=world.stack.token), 401, "unauthorized")
        assert world.admin("GET", "/metrics").status_code == 200
        assert world.admin("GET", "/healthz", token="").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/docs", "/nowhere"])
@pytest.mark.parametrize("headers", [
    {"host": "evil.example"}, {"host": "evil.example:8081"}, {"host": "localhost.evil.example"}, {"host": ""},
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": ""}, {"origin": "http://127.0.0.1"},
])  # fmt: skip
def test_403_forbidden_foreign_host_or_origin(world: World, path: str, headers: dict[str, str]) -> None:
    for token in ("", world.stack.admin_token):
        refused(world.admin("GET", path, token=token, **headers), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8081", "192.0.2.7:8081"])
def test_addresses_and_localhost_are_the_admin_listeners_own(world: World, host: str) -> None:
    assert world.admin("GET", "/docs", host=host).status_code == 200
    assert world.admin("GET", "/docs", host=host, origin=f"http://{host}").status_code == 200


def test_admin_token_twice_or_two_of_them(world: World) -> None:
    own = world.stack.admin_token
    for line in (f"Authorization: Bearer {own}", "X-Api-Key: other"):
        data = request(line, first="GET /docs HTTP/1.1", host="Host: localhost", token=own, kind=None, body=b"")
        refused(exchange(world.stack.admin_url, data), 400, "bad-request")


def test_tokens_of_one_listener_open_nothing_on_the_other(world: World) -> None:
    refused(world.ask("GET", "/orders", token=world.stack.admin_token), 401, "unauthorized")
    refused(world.admin("GET", "/docs", token=world.stack.token), 401, "unauthorized")


def test_health_is_open_on_both_listeners(world: World) -> None:
    for path in ("/healthz", "/readyz"):
        for answer in (world.ask("GET", path, token=""), world.admin("GET", path, token="")):
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
