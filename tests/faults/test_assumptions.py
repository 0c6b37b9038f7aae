"""What the promise rests on: each assumption, taken away, breaks it. docs/promise.md names these tests."""

import random
import re
from pathlib import Path
from typing import Any

import httpx

from gateway.sandbox import SandboxThread
from tests.accept.world import wait_until
from tests.faults import test_assumptions, test_listing, test_storage_power
from tests.faults.storage_tools import a_shop
from tests.support.needs import ROOT
from tests.support.power import cuts
from tests.support.stack import Stack, an_order, running_stack

OFTEN: dict[str, Any] = {
    "reconcile__interval_s": 0.02,
    "reconcile__settle_after_s": 0.5,
    "budget__per_minute": 0,
    "budget__reserved_per_minute": 10_000,
}
IMAGES = 60


def _order(stack: Stack, key: str) -> httpx.Response:
    with stack.client(headers={"idempotency-key": key}) as client:
        return client.post("/orders", json=an_order(notes=key))


def _metric(stack: Stack, name: str) -> float:
    text = httpx.get(stack.admin_url + "/metrics", trust_env=False).text
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " "))


def test_a1_an_offergrid_that_acts_on_what_it_refuses_has_an_order_twice() -> None:
    """A 429 that placed the order after all: the gateway sends it again, as 429 allows."""
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, **OFTEN) as stack,
    ):
        body = {"statusCode": 429, "message": "Too Many Requests"}
        sandbox.set_fault("status", code=429, body=body, retry_after="1", place=True)
        assert _order(stack, "k").status_code == 201
        assert len(sandbox.orders) == 2
        # What is broken is not hidden: the second one is found and counted.
        wait_until(lambda: _metric(stack, "ordergate_duplicates_total") == 1, "the duplicate is counted")


def test_a3_two_ledgers_on_one_account_do_not_know_each_others_keys() -> None:
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, **OFTEN) as one,
        running_stack(upstream_base_url=sandbox.base_url, **OFTEN) as other,
    ):
        assert {_order(stack, "k").status_code for stack in (one, other)} == {201}
        assert len(sandbox.orders) == 2
        for stack in (one, other):
            wait_until(lambda: _metric(stack, "ordergate_foreign_orders_total") == 1, "the other ledger is noticed")  # noqa: B023 - asked before the next turn


def test_a4_a_disk_that_forgets_what_it_synced_forgets_orders_that_were_told(tmp_path: Path) -> None:
    """The same power cuts that take nothing from an honest disk, on one for which a sync means nothing."""
    chance = random.Random(test_storage_power.SEED)  # noqa: S311  # no secret: which writes are lost
    with a_shop(trace=True) as shop:
        run = test_storage_power._a_run(shop)
        lying = [done for done in run.trace if done.what != "sync"]
        lost = 0
        for at, cut in enumerate(cuts(lying, {"": run.start}, IMAGES, chance)):
            folder = tmp_path / str(at)
            folder.mkdir()
            try:
                orders = test_storage_power._reopened(test_storage_power._image(shop, folder, cut))
            except Exception:  # noqa: BLE001 - a ledger that cannot be opened any more is as lost
                lost += 1
                continue
            lost += bool(test_storage_power._broken(run, cut, orders))
    assert lost


def test_the_page_names_a_test_for_each_assumption() -> None:
    page = (ROOT / "docs/promise.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (A\d) \|.*`(test_\w+)`", page, re.MULTILINE)
    assert [number for number, _ in named] == ["A1", "A2", "A3", "A4"]
    for _, name in named:
        assert hasattr(test_assumptions, name) or hasattr(test_listing, name), name
