"""The power fails: what a tenant was told, and what was sent, is in the ledger that is left."""

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from gateway.ledger.interface import OrderFilter, StoredOrder
from gateway.settings import Settings, load_settings
from gateway.wiring import open_administration, open_orders
from tests.faults.matrix import row
from tests.faults.storage_tools import LEDGER, PATIENTLY, SOAK, START_FILE, TRACE_FILE, Shop, a_shop
from tests.support.disk import Done, read_trace
from tests.support.power import Cut, cuts

pytestmark = PATIENTLY

IMAGES: Final = 5_000 if SOAK else 240
ORDERS: Final = 400 if SOAK else 40
CHECKPOINT_PAGES: Final = 60  # often, so that cuts fall into checkpoints and into a log that began anew
SEED: Final = 20261123
MAY_BE_SENT: Final = frozenset({"in_flight", "unknown", "placed"})


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, with when each was seen (monotonic ns): 201s as mark, body; posts as the gateway's order id."""

    start: bytes
    trace: list[Done]
    told: list[tuple[int, str, bytes]]
    sent: list[tuple[int, str]]


def _a_run(shop: Shop) -> Run:
    with ThreadPoolExecutor(4) as tenants:
        list(tenants.map(shop.order, [f"m{at}" for at in range(ORDERS)]))
        shop.sandbox.set_fault("place_then_reset", count=2)
        shop.sandbox.set_fault("status", code=400, count=2)
        list(tenants.map(shop.order, [f"n{at}" for at in range(8)]))
    shop.settled()
    shop.stack.process.kill()
    shop.promise_holds()
    told = [
        (round(answer.told_at * 1e9), answer.mark, answer.body)
        for answer in shop.answers
        if answer.status == 201 and answer.told_at is not None
    ]
    calls = [call for call in shop.sandbox.calls if call.method == "POST"]
    return Run(
        start=(shop.stack.folder / START_FILE).read_bytes(),
        trace=read_trace(shop.stack.folder / TRACE_FILE),
        told=told,
        sent=[(call.received.monotonic_ns, _order_id(call.body)) for call in calls],
    )


def _order_id(body: bytes) -> str:
    found: str = msgspec.json.decode(body)["metadata"]["gatewayOrderId"]
    return found


def _reopened(settings: Settings) -> list[StoredOrder]:
    """As the real ledger reads it, after it has taken a write."""
    with open_administration(settings) as administration:
        administration.add_team("after-the-cut")
    with open_orders(settings) as reader:
        return list(reader.page(OrderFilter(limit=1_000_000)))


def _broken(run: Run, cut: Cut, orders: list[StoredOrder]) -> list[str]:
    by_key = {order.idempotency_key: order for order in orders}
    by_id = {order.order_id: order for order in orders}
    found = []
    for at, mark, body in run.told:
        if at < cut.before_ns:
            order = by_key.get(mark)
            if order is None or order.outcome != "placed" or order.response != body:
                found.append(f"{mark} was told 201; the ledger has {order}")
    for at, order_id in run.sent:
        if at < cut.before_ns:
            order = by_id.get(order_id)
            if order is None or order.outcome not in MAY_BE_SENT | {"rejected"}:
                found.append(f"{order_id} was sent; the ledger has {order}")
    return found


def _image(shop: Shop, folder: Path, cut: Cut) -> Settings:
    """The cut's files in a folder of their own, and the settings that open them."""
    ledger, key = folder / LEDGER, folder / "var/master.key"
    ledger.parent.mkdir(mode=0o700)
    shutil.copy(shop.stack.folder / "var/master.key", key)
    for file, content in cut.files.items():
        ledger.with_name(ledger.name + file).write_bytes(content)
    return load_settings(
        None, {"ORDERGATE_STORAGE__URL": f"sqlite:///{ledger}", "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(key)}
    )


@row(
    53,
    fault="the power fails: of what was not synced all, nothing, some writes or some sectors are left",
    answer="none",
    holds="every 201 is in the ledger, with its body; what was sent is `in_flight`, `unknown`, `placed` or `rejected`",
)
def test_row_53_a_power_cut_takes_nothing_that_was_told_or_sent(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311  # no secret: which writes are lost
    with a_shop(trace=True, checkpoint_pages=CHECKPOINT_PAGES) as shop:
        run = _a_run(shop)
        made = promised = 0
        for cut in cuts(run.trace, {"": run.start}, IMAGES, chance):
            folder = tmp_path / str(made)
            folder.mkdir()
            found = _broken(run, cut, _reopened(_image(shop, folder, cut)))
            assert not found, f"seed {SEED}, image {made}, after {cut.after}, {cut.loss} lost: {found}"
            shutil.rmtree(folder)
            made += 1
            promised += sum(at < cut.before_ns for at, _, _ in run.told)
    print(f"images {made}, operations {len(run.trace)}, 201s held against them {promised}")  # noqa: T201  # the figures
    assert made == IMAGES
    assert sum(done.what == "sync" and done.file == "" for done in run.trace) > 3, "checkpoints are in it"
    assert promised > IMAGES
