"""Each operation of the admin listener, on a gateway that serves: it answers what the command line says, in the form
that is described, and what it changes acts on the tenants' listener.
"""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, Final

import apsw
import httpx
import pytest
from click.testing import CliRunner

from gateway.cli.main import ordergate
from gateway.wiring.desk import WHO
from tests.accept.operators import KEY, TABLE, Ground, ask, grounds, said, state
from tests.accept.raw import RawConnection, request
from tests.accept.world import World, a_world, problem, refused, wait_until
from tests.support.schemas import faults

PAGES: Final = ("/metrics", "/docs", "/problems/{type}")


@pytest.fixture(scope="module")
def operated_world() -> Iterator[World]:
    with a_world(log__level="debug", budget__reserved_per_minute=1000, upstream__timeout_s=2.4) as world:
        yield world


@pytest.fixture
def world(operated_world: World) -> Iterator[World]:
    operated_world.sandbox.clear_faults()
    operated_world.begin()
    yield operated_world
    operated_world.sandbox.clear_faults()


@pytest.fixture(scope="module")
def described(operated_world: World) -> Any:
    return ask(operated_world, "GET", "/openapi.json").json()


def done(world: World, described: Any, method: str, template: str, body: Any = None, **names: str) -> Any:
    """The answer of an operation that is done, which must be as it is described."""
    path, _, query = template.partition("?")
    answer = ask(world, method, path.format(**names) + (query and "?" + query.format(**names)), body)
    operation = described["paths"][path][method.lower()]
    good = next(status for status in operation["responses"] if status.startswith("2"))
    assert str(answer.status_code) == good, answer.text
    found = answer.json()
    schema = operation["responses"][good]["content"]["application/json"]["schema"]
    assert list(faults(found, schema, described)) == []
    return found


def alike(one: Any, other: Any) -> bool:
    """The same members with values of the same kinds, whatever the values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(alike(one[name], other[name]) for name in one)
    return type(one) is type(other)


def test_teams(world: World, described: Any) -> None:
    added = done(world, described, "POST", "/admin/teams", {"team": "north"})
    assert added == {"team": "north"}
    assert alike(added, said(world, "team", "add", "south"))
    assert done(world, described, "GET", "/admin/teams") == said(world, "team", "list")
    removed = done(world, described, "DELETE", "/admin/teams/{team}", team="north")
    assert removed == {"team": "north"}
    assert "north" not in {team["team"] for team in said(world, "team", "list")}
    refused(ask(world, "DELETE", "/admin/teams/north"), 404, "not-found")


def test_keys_are_added_tried_activated_and_revoked(world: World, described: Any) -> None:
    said(world, "team", "add", "keyed")
    keys = "/admin/teams/{team}/keys"
    first = done(world, described, "POST", keys, {"key": KEY + "-a"}, team="keyed")
    second = done(
        world, described, "POST", keys, {"key": KEY + "-b", "perMinute": 7, "perHour": None}, team="keyed"
    )
    assert (first["state"], second["state"]) == ("active", "standby")
    assert alike(first, said(world, "key", "add", "keyed", typed=KEY + "-c"))
    listed = done(world, described, "GET", keys, team="keyed")
    assert listed == said(world, "key", "list", "keyed")
    assert [key["perMinute"] for key in listed] == [None, 7, None]
    names = {"team": "keyed", "keyId": second["keyId"]}
    tried = done(world, described, "POST", keys + "/{keyId}/verify", **names)
    assert tried == said(world, "key", "verify", "keyed", second["keyId"]) == {**second, "state": "standby"}
    active = done(world, described, "POST", keys + "/{keyId}/activate", {"newAccount": True}, **names)
    assert active == {**second, "state": "active"}
    assert alike(active, said(world, "key", "activate", "keyed", second["keyId"]))
    revoked = done(world, described, "POST", keys + "/{keyId}/revoke", **names)
    assert revoked == said(world, "key", "revoke", "keyed", second["keyId"]) == {**second, "state": "revoked"}
    told = problem(ask(world, "POST", f"/admin/teams/keyed/keys/{second['keyId']}/activate"), 409, "conflict")
    assert "revoked" in told["detail"]


def test_a_key_that_offergrid_refuses_or_does_not_answer_for(world: World) -> None:
    said(world, "team", "add", "barred")
    good = said(world, "key", "add", "barred", typed=KEY + "-d")["keyId"]
    bad = said(world, "key", "add", "barred", typed="sandbox-revoked-canary")["keyId"]
    for what in ("verify", "activate"):
        told = problem(ask(world, "POST", f"/admin/teams/barred/keys/{bad}/{what}"), 409, "conflict")
        assert "does not accept" in told["detail"]
    assert {key["keyId"]: key["state"] for key in said(world, "key", "list", "barred")} == {
        good: "active",
        bad: "refused",
    }
    world.sandbox.set_fault("status", code=500, count=0, match={"method": "GET"})
    for what in ("verify", "activate"):
        answer = ask(world, "POST", f"/admin/teams/barred/keys/{good}/{what}")
        refused(answer, 503, "upstream-unavailable")
        assert "canary" not in answer.text


def test_orders_are_sent_with_the_key_that_was_activated_over_http(world: World) -> None:
    token = world.token_of("mover", team="movers", key=KEY + "-old")
    assert world.order(token=token).status_code == 201
    added = ask(world, "POST", "/admin/teams/movers/keys", {"key": KEY + "-new"}).json()
    path = f"/admin/teams/movers/keys/{added['keyId']}/activate"
    # The sandbox gives each key an account of its own: only one who says so turns to it.
    assert "another account" in problem(ask(world, "POST", path), 409, "conflict")["detail"]
    assert ask(world, "POST", path, {"newAccount": True}).json()["state"] == "active"

    def sent_with() -> str:
        world.order(token=token)
        return world.placed[-1].request.key

    wait_until(lambda: sent_with() == KEY + "-new", "an order is sent with the new key")
    assert world.placed[0].request.key == KEY + "-old"


def test_tenants(world: World, described: Any) -> None:
    said(world, "team", "add", "callers")
    wanted = {
        "tenant": "kiosk", "team": "callers", "require_idempotency_key": True, "guaranteed_per_minute": 3,
        "implicit_window_s": 60, "metadata": {"defaults": {"channel": 1}, "enforced": {"test": [True]}},
    }  # fmt: skip
    added = done(world, described, "POST", "/admin/tenants", wanted)
    assert added == {**wanted, "state": "active"} == said(world, "tenant", "show", "kiosk")
    assert list(added) == list(said(world, "tenant", "add", "till", "--team", "callers"))
    assert done(world, described, "GET", "/admin/tenants") == said(world, "tenant", "list")
    one = "/admin/tenants/{tenant}"
    assert done(world, described, "GET", one, tenant="kiosk") == added
    suspended = done(world, described, "POST", one + "/suspend", tenant="kiosk")
    assert suspended == {**added, "state": "suspended"} == said(world, "tenant", "show", "kiosk")
    assert done(world, described, "POST", one + "/resume", tenant="kiosk") == added
    members = {"defaults": {}, "enforced": {"channel": {"a/b~": None}}}
    changed = done(world, described, "PUT", one + "/metadata", members, tenant="kiosk")
    assert changed == {**added, "metadata": members} == said(world, "tenant", "metadata", "kiosk")
    removed = done(world, described, "DELETE", one, tenant="kiosk")
    assert removed == changed
    refused(ask(world, "GET", "/admin/tenants/kiosk"), 404, "not-found")


def test_metadata_keeps_its_spelling_and_its_faults_have_pointers(world: World) -> None:
    path = "/admin/tenants/shop/metadata"
    spelled = b'{"defaults":{"big":12345678901234567890.50,"tiny":1e-7},"enforced":{}}'
    answer = ask(world, "PUT", path, content=spelled)
    assert b'"big":12345678901234567890.50,"tiny":1e-7' in answer.content
    wrong = {"defaults": {"gatewayOrderId": 1, "a": 1}, "enforced": {"GATEWAY": 2, "b/c": 1}}
    told = refused(ask(world, "PUT", path, wrong), 400, "bad-request")
    assert [fault["pointer"] for fault in told["errors"]] == ["/defaults/gatewayOrderId", "/enforced/GATEWAY"]
    large = {"defaults": {"a": "x" * 65_536}}
    told = refused(ask(world, "PUT", path, large), 400, "bad-request")
    assert [fault["pointer"] for fault in told["errors"]] == ["/defaults"]
    document = {"tenants": [{"name": "shop", "team": "team", "metadata": {**large, "enforced": {"gatewayX": 1}}}]}
    told = refused(ask(world, "POST", "/admin/apply", document), 400, "bad-request")
    pointers = {fault["pointer"] for fault in told["errors"]}
    assert pointers == {"/tenants/0/metadata/defaults", "/tenants/0/metadata/enforced/gatewayX"}
    assert ask(world, "PUT", path).json()["metadata"] == {"defaults": {}, "enforced": {}}


def test_what_is_changed_over_http_acts_on_the_tenants_listener(world: World) -> None:
    ask(world, "POST", "/admin/tenants", {"tenant": "porter", "team": "team"})
    issued = ask(world, "POST", "/admin/tokens", {"tenant": "porter"}).json()
    token = issued["token"]
    world.wait_for_token(token, status=200)
    ask(world, "POST", "/admin/tenants/porter/suspend")
    world.wait_for_token(token, status=403)
    ask(world, "POST", "/admin/tenants/porter/resume")
    world.wait_for_token(token, status=200)
    ask(world, "PUT", "/admin/tenants/porter/metadata", {"enforced": {"channel": 7}})

    def channel() -> Any:
        assert world.order(token=token).status_code == 201
        assert world.placed[-1].metadata is not None
        return world.placed[-1].metadata.get("channel")

    wait_until(lambda: channel() == 7, "the metadata member stands in an order")
    ask(world, "DELETE", f"/admin/tokens/{issued['tokenId']}")
    world.wait_for_token(token, status=401)
    again = ask(world, "POST", "/admin/tokens", {"tenant": "porter"}).json()["token"]
    world.wait_for_token(again, status=200)
    assert ask(world, "DELETE", "/admin/tenants/porter").status_code == 200
    world.wait_for_token(again, status=401)


def test_tokens_are_seen_once(world: World, described: Any) -> None:
    said(world, "tenant", "add", "holder", "--team", "team")
    issued = done(world, described, "POST", "/admin/tokens", {"tenant": "holder", "expiresIn": "90d"})
    assert alike(issued, said(world, "token", "issue", "holder", "--expires-in", "90d"))
    endless = done(world, described, "POST", "/admin/tokens", {"tenant": "holder"})
    assert endless["expiresAt"] is None
    listed = done(world, described, "GET", "/admin/tokens?tenant={tenant}", tenant="holder")
    assert listed == said(world, "token", "list", "holder")
    assert issued["token"].rpartition("_")[2] not in json.dumps(listed)
    assert issued["expiresAt"] in {token["expiresAt"] for token in listed}
    revoked = done(world, described, "DELETE", "/admin/tokens/{tokenId}", tokenId=issued["tokenId"])
    assert revoked == said(world, "token", "revoke", issued["tokenId"])
    told = refused(
        ask(world, "POST", "/admin/tokens", {"tenant": "holder", "expiresIn": "9999999d"}), 400, "bad-request"
    )
    assert "10 years" in told["detail"]
    for wrong in ("90", "d", "-1d", "1w", ""):
        answer = ask(world, "POST", "/admin/tokens", {"tenant": "holder", "expiresIn": wrong})
        assert refused(answer, 400, "bad-request")["errors"][0]["pointer"] == "/expiresIn"


def test_documents_are_applied_as_a_whole(world: World, described: Any) -> None:
    document: dict[str, Any] = {
        "teams": [{"name": "planned"}],
        "tenants": [{"name": "planned-one", "team": "planned", "metadata": {"defaults": {"a": 1}}}],
    }
    would = done(world, described, "POST", "/admin/apply?dryRun=true", document)
    assert [change["action"] for change in would["changes"]] == ["team add", "tenant add"]
    file = world.stack.folder / "tenants.yaml"
    file.write_text(json.dumps(document))
    assert would == said(world, "apply", str(file), "--dry-run")
    assert "planned" not in {team["team"] for team in said(world, "team", "list")}
    did = done(world, described, "POST", "/admin/apply?dryRun=false&prune=false", document)
    assert did == {**would, "dryRun": False}
    assert done(world, described, "POST", "/admin/apply", document)["changes"] == []
    document["tenants"][0] |= {"state": "suspended", "implicit_window_s": 5}
    changes = done(world, described, "POST", "/admin/apply", document)["changes"]
    assert [change["change"]["to"] for change in changes] == [{"state": "suspended", "implicit_window_s": 5}]
    shown = said(world, "tenant", "show", "planned-one")
    assert (shown["state"], shown["metadata"]["defaults"]) == ("suspended", {"a": 1})
    gone = {"tenants": [tenant for tenant in _listed(world) if tenant["name"] != "planned-one"]}
    pruned = done(world, described, "POST", "/admin/apply?dryRun=true&prune=true", gone)["changes"]
    assert [(change["action"], change["subject"]) for change in pruned] == [("tenant remove", "planned-one")]
    document["tenants"] += [{"name": "planned-two", "team": "nowhere"}, {"name": "shop", "team": "planned"}]
    told = problem(ask(world, "POST", "/admin/apply", document), 409, "conflict")
    assert [fault["pointer"] for fault in told["errors"]] == ["/tenants/1/team", "/tenants/2/team"]
    document["tenants"][1:] = [{"name": "planned-one", "team": "planned"}]
    told = refused(ask(world, "POST", "/admin/apply", document), 400, "bad-request")
    assert [fault["pointer"] for fault in told["errors"]] == ["/tenants/1/name"]
    refused(ask(world, "POST", "/admin/apply?dryRun=yes", {}), 400, "bad-request")


def _listed(world: World) -> list[dict[str, Any]]:
    return [{"name": tenant["tenant"], "team": tenant["team"]} for tenant in said(world, "tenant", "list")]


def test_orders_are_listed_page_by_page_and_shown(world: World, described: Any) -> None:
    token = world.token_of("reader")
    placed = [world.order(token=token).json()["orderId"] for _ in range(3)]
    rejected = world.order(token=token, items=[{"offerId": "unavailable-1"}])
    assert rejected.json()["outcome"] == "rejected"
    path = "/admin/orders?tenant={tenant}&outcome=placed&limit=2"
    page = done(world, described, "GET", path, tenant="reader")
    rest = done(world, described, "GET", path + f"&cursor={page['nextCursor']}", tenant="reader")
    found = [*page["orders"], *rest["orders"]]
    assert [order["upstreamOrderId"] for order in found] == placed[::-1]
    assert rest["nextCursor"] is None
    assert found == said(world, "orders", "list", "--tenant", "reader", "--outcome", "placed")
    shown = done(world, described, "GET", "/admin/orders/{orderId}", orderId=rejected.json()["orderId"])
    assert shown == said(world, "orders", "show", shown["orderId"]) == world.shown(shown["orderId"], token=token)
    every = done(world, described, "GET", "/admin/orders?limit=100")["orders"]
    assert {order["tenant"] for order in every} >= {"reader"}
    for query in ("outcome=lost", "limit=0", "limit=101", "cursor=-1", "limit=1&limit=1"):
        refused(ask(world, "GET", f"/admin/orders?{query}"), 400, "bad-request")


def test_unknown_orders_are_looked_for_and_settled_by_hand(world: World, described: Any) -> None:
    ground = grounds(world, "looker")
    answer = world.order(token=ground.token, key="by-hand")
    assert answer.status_code == 201
    looked = done(world, described, "POST", "/admin/orders/reconcile")
    assert looked["found"] >= 1
    order = done(world, described, "GET", "/admin/orders/{orderId}", **ground.names)
    assert order["outcome"] == "placed"
    world.sandbox.set_fault("reset_after_read")
    lost = world.order(token=ground.token).json()["orderId"]
    path = f"/admin/orders/{lost}/resolve"
    for body in (
        {"reason": "x"}, {"reason": "x", "placed": "ord-1", "notPlaced": True}, {"reason": " ", "notPlaced": True},
        {"reason": "a\nb", "notPlaced": True}, {"notPlaced": True}, {"reason": "x" * 501, "notPlaced": True},
    ):  # fmt: skip
        refused(ask(world, "POST", path, body), 400, "bad-request")
    word = {"notPlaced": True, "reason": "OfferGrid's support says so"}
    settled = done(world, described, "POST", "/admin/orders/{orderId}/resolve", word, orderId=lost)
    assert settled["outcome"] == "not_placed"
    assert settled == said(world, "orders", "show", lost)
    assert "not unknown" in problem(ask(world, "POST", path, word), 409, "conflict")["detail"]


def test_reconciling_says_what_the_command_says(world: World, described: Any) -> None:
    done_here = done(world, described, "POST", "/admin/orders/reconcile")
    command = CliRunner(env=world.stack.environ).invoke(ordergate, ["orders", "reconcile", "--once", "--json"])
    assert list(done_here) == list(json.loads(command.stdout))


def test_two_looks_at_once_come_one_after_the_other(world: World) -> None:
    world.token_of("twin", team="twins", key=KEY + "-twins")
    answers = _at_once(lambda: ask(world, "POST", "/admin/orders/reconcile"))
    assert [answer.status_code for answer in answers] == [200] * 8


def test_every_change_has_its_row_and_the_chain_holds(world: World, described: Any) -> None:
    before = done(world, described, "GET", "/admin/audit?limit=1")["audit"][0]["number"]
    ask(world, "POST", "/admin/teams", {"team": "audited"})
    ask(world, "POST", "/admin/teams", {"team": "audited"})
    ask(world, "POST", "/admin/apply?dryRun=true", {"teams": [{"name": "never"}]})
    ask(world, "DELETE", "/admin/teams/audited")
    rows = done(world, described, "GET", "/admin/audit?limit=2")
    assert [(row["number"], row["who"], row["action"], row["subject"]) for row in rows["audit"]] == [
        (before + 2, WHO, "team remove", "audited"),
        (before + 1, WHO, "team add", "audited"),
    ]
    assert rows["audit"] == said(world, "audit", "list", "--limit", "2")
    older = done(world, described, "GET", "/admin/audit?limit=1&cursor={cursor}", cursor=rows["nextCursor"])
    assert [row["number"] for row in older["audit"]] == [before]
    last = done(world, described, "GET", "/admin/audit?limit=5&cursor=2")
    assert ([row["number"] for row in last["audit"]], last["nextCursor"]) == ([1], None)
    found = done(world, described, "GET", "/admin/audit/verify")
    assert found == said(world, "audit", "verify")
    assert (found["ok"], found["rows"], found["broken"]) == (True, before + 2, None)
    for query in ("limit=0", "limit=x", "cursor=x", "cursor=-1"):
        refused(ask(world, "GET", f"/admin/audit?{query}"), 400, "bad-request")


def test_the_listener_goes_on_while_a_change_waits_for_the_ledger(world: World) -> None:
    """Another process writes the ledger: the change waits beside the loop, and is done or refused in the end."""
    answers: list[httpx.Response] = []
    name = {"team": "patient"}
    shown = {"authorization": f"Bearer {world.stack.admin_token}"}
    changing = 'ordergate_http_requests_in_flight{listener="admin"} 2.0'
    for _ in range(20):
        with _database(world) as other:
            other.execute("BEGIN IMMEDIATE")
            change = threading.Thread(target=lambda: answers.append(_apart(world, name)))
            change.start()
            seen = False
            while change.is_alive() and not seen:
                seen = (
                    changing in httpx.get(world.stack.admin_url + "/metrics", headers=shown, trust_env=False).text
                )
            other.execute("ROLLBACK")
            change.join()
        if seen:
            break
    assert seen, "no page was answered while the change waited"
    assert answers[-1].status_code in (201, 409, 503), answers[-1].text
    if answers[-1].status_code == 503:
        refused(answers[-1], 503, "ledger-unavailable")
        assert answers[-1].headers["retry-after"] == "1"


def _database(world: World) -> closing[apsw.Connection]:
    return closing(apsw.Connection(str(world.stack.folder / "var/ordergate.db")))


def _at_once(ask_once: Callable[[], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(8) as threads:
        return [asked.result() for asked in [threads.submit(ask_once) for _ in range(8)]]


def _tried(world: World, path: str) -> None:
    """Asks, and does not mind that nobody answers."""
    headers = {"authorization": f"Bearer {world.stack.admin_token}"}
    with suppress(httpx.HTTPError):
        httpx.post(world.stack.admin_url + path, json={}, headers=headers, timeout=30, trust_env=False)


def _apart(world: World, body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {world.stack.admin_token}"}
    return httpx.post(
        world.stack.admin_url + "/admin/teams", json=body, headers=headers, timeout=30, trust_env=False
    )


def test_a_change_whose_audit_row_cannot_be_written_is_not_made(world: World) -> None:
    before = state(world)
    with _database(world) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
        try:
            for path, body in (
                ("/admin/teams", {"team": "unwritten"}),
                ("/admin/tenants", {"tenant": "unwritten", "team": "team"}),
                ("/admin/tokens", {"tenant": "shop"}),
                ("/admin/tenants/shop/suspend", {}),
                ("/admin/apply", {"teams": [{"name": "unwritten"}]}),
            ):
                answer = ask(world, "POST", path, body)
                refused(answer, 503, "ledger-unavailable")
                assert answer.headers["retry-after"] == "1"
                assert "ogt_" not in answer.text
        finally:
            other.execute("DROP TRIGGER full")
    assert state(world) == before
    logged = [line["where"] for line in world.stack.process.log if line["event"] == "ledger"]
    assert {"addTeam", "addTenant", "issueToken", "suspendTenant", "apply"} <= set(logged)
    assert ask(world, "POST", "/admin/teams", {"team": "written"}).status_code == 201


def test_changes_at_once_are_made_one_after_the_other(world: World) -> None:
    """Eight ask for the same: one is told that it was done, and the audit log has one row for each change."""
    before = ask(world, "GET", "/admin/audit?limit=1").json()["audit"][0]["number"]
    document = {"teams": [{"name": "raced"}], "tenants": [{"name": "raced", "team": "raced"}]}
    applied = _at_once(lambda: ask(world, "POST", "/admin/apply", document))
    assert sorted(len(answer.json()["changes"]) for answer in applied) == [0] * 7 + [2]
    added = _at_once(lambda: ask(world, "POST", "/admin/teams", {"team": "raced-too"}))
    assert sorted(answer.status_code for answer in added) == [201] + [409] * 7
    assert ask(world, "GET", "/admin/audit?limit=1").json()["audit"][0]["number"] == before + 3
    assert ask(world, "GET", "/admin/audit/verify").json()["broken"] is None


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with a_world(tenant_api__body_timeout_s=0.4) as world, RawConnection(world.stack.admin_url) as connection:
        lines = ("Content-Length: 20",)
        connection.send(
            request(*lines, first="POST /admin/teams HTTP/1.1", host="Host: localhost", token=world.stack.admin_token,
                    body=b'{"team":', length=False)
        )  # fmt: skip
        refused(connection.answer(), 408, "request-timeout")


@pytest.mark.parametrize("what", ["verify", "activate"])
def test_stopping_waits_for_no_try_of_a_key(what: str) -> None:
    """It ends without a defect's line, and with the key as it was."""
    with a_world() as world:
        ground = grounds(world)
        before = state(world)
        world.sandbox.set_fault("stop_reading", count=0, match={"method": "GET"})
        asked = len(world.sandbox.calls)
        path = ground.path("/admin/teams/{team}/keys/{keyId}/") + what
        trying = threading.Thread(target=_tried, args=(world, path))
        trying.start()
        wait_until(lambda: len(world.sandbox.calls) > asked, "OfferGrid is asked")
        assert world.stack.process.stop() == 0
        trying.join()
        assert state(world) == before


def test_answers_of_every_row_are_as_they_are_described(world: World, described: Any) -> None:
    """Whatever each row of the table is answered: the status is described, and the form. A change has a ground of its
    own: what one took away, no other can be asked about.
    """
    looked_at = grounds(world, "row")
    for number, ((method, path), row) in enumerate(TABLE.items()):
        ground = looked_at if row.body is None else grounds(world, f"row-{number}")
        query = row.query.format(**ground.names)
        answer = ask(world, method, ground.path(path) + (query and f"?{query}"), ground.body(row))
        responses = described["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in responses, (method, path, answer.text)
        if path in PAGES or answer.headers["content-type"].startswith("text/"):
            continue
        (kind,) = responses[str(answer.status_code)]["content"]
        assert answer.headers["content-type"] == kind
        assert (
            list(faults(answer.json(), responses[str(answer.status_code)]["content"][kind]["schema"], described))
            == []
        )


def test_ground_is_what_the_table_needs(world: World) -> None:
    ground: Ground = grounds(world, "firm")
    assert set(ground.names) == {"team", "keyId", "tenant", "tokenId", "orderId", "type"}
