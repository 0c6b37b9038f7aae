"""Commands on the storage of a gateway that runs: what they change acts, and what it did is seen."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from gateway.sandbox import SandboxThread
from tests.cli.conftest import Program
from tests.support.stack import Stack, an_order, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with SandboxThread(per_minute=0) as sandbox, running_stack(upstream_base_url=sandbox.base_url) as running:
        yield running


@pytest.fixture
def program(stack: Stack) -> Program:
    return Program(stack.folder, stack.environ)


def wait_until(true: Callable[[], bool]) -> None:
    """A change acts within a second; a busy machine gets twenty."""
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def asks(stack: Stack, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(stack.tenant_url + "/orders", headers=headers, trust_env=False).status_code


def test_tenant_and_token_made_meanwhile_are_accepted_suspended_and_revoked(stack: Stack, program: Program) -> None:
    program("tenant", "add", "till", "--team", "team", "--json")
    issued = program("token", "issue", "till", "--json").value
    wait_until(lambda: asks(stack, issued["token"]) == 200)
    program("tenant", "suspend", "till")
    wait_until(lambda: asks(stack, issued["token"]) == 403)
    program("tenant", "resume", "till")
    wait_until(lambda: asks(stack, issued["token"]) == 200)
    program("token", "revoke", issued["tokenId"])
    wait_until(lambda: asks(stack, issued["token"]) == 401)


def test_orders_are_listed_and_shown_as_tenants_see_them(stack: Stack, program: Program) -> None:
    stack.new_tenant("lister")
    with program.administration() as admin:
        token = admin.issue_token("lister").token.text()
    wait_until(lambda: asks(stack, token) == 200)
    bodies = [an_order(notes=f"order {number}") for number in range(3)]
    bodies[1]["items"][0]["offerId"] = "unavailable-1"
    client = httpx.Client(
        base_url=stack.tenant_url, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30
    )
    with client:
        made = [client.post("/orders", json=body).headers["ordergate-order-id"] for body in bodies]
        views = {order_id: client.get(f"/orders/{order_id}").json() for order_id in made}
    listed = program("orders", "list", "--tenant", "lister", "--json").value
    assert listed == [views[order_id] for order_id in reversed(made)]
    assert [one["outcome"] for one in listed] == ["placed", "rejected", "placed"]
    rejected = program("--json", "orders", "list", "--outcome", "rejected", "--tenant", "lister", "--limit", "5")
    assert [one["orderId"] for one in rejected.value] == [made[1]]
    assert program("orders", "show", made[0], "--json").value == views[made[0]]
    assert f'"orderId": "{made[0]}"' in program.within("orders", "show", made[0]).out
    table = program("orders", "list", "--tenant", "lister", "--limit", "2")
    rows = [line.split() for line in table.out.splitlines()]
    assert [row[:3] for row in rows[1:]] == [[made[2], "lister", "placed"], [made[1], "lister", "rejected"]]
    assert all(len(row) == 7 for row in rows[1:]), "cut off"
    assert table.err == "the newest 2; there are more: --limit\n"


def test_doctor_knows_the_gateway_that_runs(stack: Stack, program: Program) -> None:
    ports = {
        "ORDERGATE_TENANT_API__PORT": stack.tenant_url.rpartition(":")[2],
        "ORDERGATE_ADMIN_API__PORT": stack.admin_url.rpartition(":")[2],
    }
    done = program("doctor", **ports)
    assert done.status == 0, done
    assert done.out.count("a gateway answers") == 2
    assert "OfferGrid accepts key-" in done.out


def test_a_second_gateway_may_share_the_ledger(stack: Stack, program: Program) -> None:
    with program.started("serve") as process:
        assert process.stderr is not None
        assert any('"ready"' in line for line in process.stderr)
        with stack.client() as client:
            assert client.get("/readyz").status_code == 200
