"""What operators change while orders are on their way: nothing is lost by it, and of two words one counts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest

from tests.accept.world import wait_until
from tests.cli.conftest import Done, Program
from tests.faults.matrix import row
from tests.faults.run import Run, a_run
from tests.support.records import audited, changes_of
from tests.support.stack import an_order

OFTEN: Final[dict[str, Any]] = {
    "reconcile__interval_s": 0.1,
    "reconcile__settle_after_s": 0.5,
    "budget__reserved_per_minute": 10_000,
}
SLOW_S: Final = 600
LISTING: Final = {"method": "GET"}


def program(run: Run) -> Program:
    return Program(run.stack.folder, run.stack.environ)


@contextmanager
def in_flight(run: Run, key: str) -> Iterator[Any]:
    """OfferGrid has the order and does not answer before the block ends."""
    run.sandbox.set_fault("slow", after_s=SLOW_S)
    asking = run.asking(key)
    wait_until(lambda: len(run.taken(key)) == 1, "the order at OfferGrid")
    try:
        yield asking
    finally:
        run.sandbox.clear_faults()


def unknown(run: Run, key: str) -> str:
    """An order that OfferGrid has, which nobody knows; its id."""
    run.sandbox.set_fault("place_then_reset")
    answer = run.order(key)
    assert answer is not None and answer.json()["outcome"] == "unknown"
    return str(answer.headers["ordergate-order-id"])


def asked(run: Run) -> httpx.Response:
    """Something that sends nothing."""
    with run.stack.client() as client:
        return client.get("/orders")


def is_refused(run: Run, status: int, kind: str) -> None:
    wait_until(lambda: asked(run).status_code == status, f"{status} to what comes next")
    posts = len(run.posts)
    with run.stack.client() as client:
        answer = client.post("/orders", json=an_order(notes="refused"))
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert len(run.posts) == posts


@row(
    82,
    fault="a tenant's token is revoked while an order sent with it is at OfferGrid",
    answer="201; placed. What comes next: 401 unauthorized",
    holds="the order runs to its end, sent once; nothing is sent for the token any more",
)
def test_row_82_a_token_that_is_revoked_ends_no_order() -> None:
    with a_run(upstream__timeout_s=60, shutdown__drain_s=120) as run:
        with in_flight(run, "k") as asking:
            token_id = run.stack.token.split("_")[1]
            assert program(run)("token", "revoke", token_id).status == 0
            is_refused(run, 401, "unauthorized")
            assert run.rows()["k"].outcome == "in_flight"
        answer = asking.answer()
        assert answer.status_code == 201 and run.taken("k") == [answer.json()["orderId"]]
        assert run.rows()["k"].outcome == "placed"
        is_refused(run, 401, "unauthorized")


@row(
    82,
    part="the tenant is suspended",
    answer="201; placed. What comes next: 403 tenant-suspended",
    holds="sent once; resumed, the tenant gets the same answer again under the same key",
)
def test_row_82_a_tenant_that_is_suspended_loses_no_order() -> None:
    with a_run(upstream__timeout_s=60, shutdown__drain_s=120) as run:
        with in_flight(run, "k") as asking:
            assert program(run)("tenant", "suspend", "shop").status == 0
            is_refused(run, 403, "tenant-suspended")
            assert run.rows()["k"].outcome == "in_flight"
        answer = asking.answer()
        assert answer.status_code == 201
        assert program(run)("tenant", "resume", "shop").status == 0
        wait_until(lambda: asked(run).status_code == 200, "the tenant is known again")
        again = run.order("k")
        assert again is not None and (again.status_code, again.content) == (201, answer.content)
        assert run.taken("k") == [answer.json()["orderId"]]


REMOVALS: Final[dict[str, tuple[str, ...]]] = {
    "the tenant": ("tenant", "remove", "shop"),
    "the tenant, by a file": ("apply", "none.yaml", "--prune"),
}


@row(
    84,
    fault="a tenant with an order that nobody is sure of, or that is on its way, is removed",
    answer="the command: exit 4, and nothing is changed",
    holds="reconciling goes on, and finds the order; then the tenant can be removed, and its token is unknown",
)
@pytest.mark.parametrize("how", REMOVALS)
def test_row_84_a_tenant_with_orders_in_doubt_stays(how: str) -> None:
    with a_run(upstream__timeout_s=60, shutdown__drain_s=120, **OFTEN) as run:
        (run.stack.folder / "none.yaml").write_text("teams:\n  - name: team\ntenants: []\n")
        remove = REMOVALS[how]

        def refused() -> None:
            done = program(run)(*remove)
            assert (done.status, done.out) == (4, "") and "1 order that nobody is sure of" in done.err
            assert asked(run).status_code == 200

        with in_flight(run, "on-its-way"):
            refused()
        run.placed("on-its-way")
        run.sandbox.set_fault("status", code=500, count=0, match=LISTING)
        unknown(run, "in-doubt")
        refused()
        run.sandbox.clear_faults()
        wait_until(lambda: run.rows()["in-doubt"].outcome == "placed", "the order is found")
        assert program(run)(*remove).status == 0
        wait_until(lambda: asked(run).status_code == 401, "the token is unknown")
        assert len(run.taken("in-doubt")) == 1


def resolve(run: Run, order_id: str) -> Done:
    return program(run)("orders", "resolve", order_id, "--not-placed", "--reason", "it is not in their list")


def history(run: Run, order_id: str) -> list[str]:
    return [change.outcome for change in changes_of(run.ledger) or () if change.order_id == order_id]


def late_placements(run: Run) -> float:
    headers = {"authorization": f"Bearer {run.stack.admin_token}"}
    text = httpx.get(run.stack.admin_url + "/metrics", headers=headers, trust_env=False).text
    name = "ordergate_late_placements_total "
    return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


@row(
    85,
    fault="an operator says that an order is not there, while the listing that shows it is on its way",
    answer="502 outcome-unknown; not_placed, then placed",
    holds="the operator's word is audited; the listing does not undo it unseen: a late placement, which is an alarm",
)
def test_row_85_a_listing_that_comes_after_an_operators_word_is_an_alarm() -> None:
    with a_run(**OFTEN) as run:
        run.sandbox.set_fault("slow", count=0, after_s=SLOW_S, match=LISTING)
        order_id = unknown(run, "k")
        wait_until(lambda: any(call.method == "GET" for call in run.sandbox.calls), "the listing is asked for")
        done = resolve(run, order_id)
        assert done.status == 0 and run.rows()["k"].outcome == "not_placed", done
        run.sandbox.clear_faults()
        line = run.stack.process.wait_for("late_placement")
        assert (line["order_id"], line["level"]) == (order_id, "error")
        wait_until(lambda: run.rows()["k"].outcome == "placed", "the order is placed")
        assert history(run, order_id) == ["in_flight", "unknown", "not_placed", "placed"]
        assert (audited(run.ledger, order_id), late_placements(run)) == (1, 1)
        run.heals("k")


@row(
    85,
    part="the listing was faster",
    answer="502 outcome-unknown; placed. The command: exit 4",
    holds="the operator is told, and nothing is changed or audited",
)
def test_row_85_an_operator_who_comes_too_late_is_told() -> None:
    with a_run(**OFTEN) as run:
        order_id = unknown(run, "k")
        wait_until(lambda: run.rows()["k"].outcome == "placed", "the order is found")
        done = resolve(run, order_id)
        assert (done.status, done.out) == (4, "") and "unknown" in done.err
        assert history(run, order_id) == ["in_flight", "unknown", "placed"]
        assert (audited(run.ledger, order_id), late_placements(run)) == (0, 0)
        run.heals("k")


@row(
    85,
    part="both at once, of several orders",
    answer="502 outcome-unknown; placed in the end",
    holds="of the two words on each order one counts, and only an operator's that counts is audited",
)
def test_row_85_of_two_words_at_once_one_counts() -> None:
    keys = [f"k{number}" for number in range(4)]
    with a_run(**OFTEN) as run, ThreadPoolExecutor(len(keys)) as operators:
        run.sandbox.set_fault("slow", count=0, after_s=SLOW_S, match=LISTING)
        ids = [unknown(run, key) for key in keys]
        wait_until(lambda: any(call.method == "GET" for call in run.sandbox.calls), "the listing is asked for")
        words = [operators.submit(resolve, run, order_id) for order_id in ids]
        wait_until(lambda: any(row.outcome == "not_placed" for row in run.rows().values()), "the first word")
        run.sandbox.clear_faults()
        said = [word.result().status for word in words]
        wait_until(lambda: {row.outcome for row in run.rows().values()} == {"placed"}, "all are placed")
        for order_id, status in zip(ids, said, strict=True):
            counted = {0: ["not_placed", "placed"], 4: ["placed"]}[status]
            assert history(run, order_id) == ["in_flight", "unknown", *counted]
            assert audited(run.ledger, order_id) == (status == 0)
        assert late_placements(run) == said.count(0) >= 1
        for key in keys:
            run.heals(key)
