"""Files that may not be written, that changed, or that are gone: noticed, and never an answer that is not true."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.core.lifecycle import Outcome
from gateway.errors import LedgerError, StorageUnreachable
from gateway.ledger.interface import Known, OrderFilter, StoredOrder
from gateway.ledger.sqlite_check import require_sound
from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.faults.storage_tools import PATIENTLY, SOAK, a_shop, problem
from tests.ledger.ledger_tools import ENDED, a_ledger, claimed, end, new_order
from tests.support.disk import READ_ONLY, onward
from tests.support.stack import SERVE, Process

pytestmark = PATIENTLY

NOT_WRITTEN: Final = (503, "ledger-unavailable", "not_placed", True)
BROKEN_STATUS: Final = 5
SEED: Final = 20261123

WITHOUT_PRIVILEGE: Final = ("tests.support.unprivileged", "serve")


@row(
    50,
    fault="the file system becomes read-only",
    answer="503 `ledger-unavailable`, `not_placed`; exit 5 at start",
    holds="`/readyz` is 503; writable again, it goes on by itself",
)
def test_row_50_a_ledger_that_became_read_only_takes_no_order() -> None:
    with a_shop() as shop:
        shop.place("before")
        shop.disk.arm(onward(1, "write", READ_ONLY))
        assert problem(shop.order("new")) == NOT_WRITTEN
        assert "new" not in shop.taken()
        wait_until(lambda: shop.get("/readyz").status_code == 503, "not ready")
        shop.disk.arm()
        shop.place("new")
        wait_until(lambda: shop.get("/readyz").status_code == 200, "ready again")
        shop.promise_holds()


@row(50, part="at start", fault="a mode forbids writing", answer="exit 5, in one line")
@pytest.mark.parametrize("names", [["ordergate.db"], ["."]], ids=["file", "folder"])
def test_row_50_nothing_starts_on_what_it_may_not_write(names: list[str]) -> None:
    with a_shop() as shop:
        shop.place("before")
        shop.stack.process.stop()
        places = [shop.ledger.parent / name for name in names]
        modes = [place.stat().st_mode for place in places]
        for place in places:
            place.chmod(0o500 if place.is_dir() else 0o400)
        process = Process(shop.stack.environ, shop.stack.folder, WITHOUT_PRIVILEGE)
        assert process.wait() == BROKEN_STATUS, process.log
        (said,) = process.log
        assert str(shop.ledger) in said["text"], said
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)
        shop.stack.start()
        shop.place("before")
        shop.promise_holds()


# --- a byte that changed -------------------------------------------------------------------------------------------

PAGE: Final = 4096
LOG_HEADER: Final = 32
FRAME: Final = 24 + PAGE
KEYS: Final = [f"key-{at}" for at in range(12)]
OUTCOMES: Final[tuple[Outcome, ...]] = ("placed", "rejected", "not_placed", "unknown")


async def _a_history(path: Path) -> None:
    """Orders that ended in every way, a few pages of them."""
    async with a_ledger(path) as ledger:
        for at, key in enumerate(KEYS):
            order = await claimed(ledger, new_order(key, body=f"body-{at}".encode()))
            outcome = OUTCOMES[at % len(OUTCOMES)]
            upstream = f"up-{at}" if outcome == "placed" else None
            await ledger.settle(order, ENDED, end(outcome, upstream, response=b"x" * 900))


def _started(path: Path) -> list[Any]:
    """What a gateway that starts on this file says of each key, of each order and of all. Raises OrdergateError."""
    require_sound(path)
    return asyncio.run(_answers(path))


async def _answers(path: Path) -> list[Any]:
    async with a_ledger(path) as ledger:
        found: list[Any] = []
        for at, key in enumerate(KEYS):
            known = await ledger.recall(new_order(key, body=f"body-{at}".encode()))
            found.append(known.order if isinstance(known, Known) else known)
        page = await ledger.page(OrderFilter(limit=100))
        found += page
        found += [await ledger.find(order.order_id, tenant_id=1) for order in page]
        return [_told(order) for order in found]


def _told(order: StoredOrder | None) -> object:
    """What of an order is told as its answer. The moments beside it, and how the log names its end, are not sealed."""
    if order is None:
        return None
    return (order.order_id, order.outcome, order.upstream_order_id, order.idempotency_key, order.response)


def _flips(content: bytes, chance: random.Random, each: int) -> list[int]:
    """Every third byte of the file's header, and some of each page, where there is something: most of it is empty."""
    found = list(range(0, 100, 3))
    for begin in range(0, len(content), PAGE):
        written = [at for at in range(begin, begin + PAGE) if content[at]]
        found += chance.sample(written, min(each, len(written)))
    return found


@row(
    51,
    fault="a byte of the database changed, in any page",
    answer="exit 5 naming `ordergate db check`; or what was sealed is refused",
    holds="never another answer than before",
)
def test_row_51_a_changed_byte_of_the_database_is_never_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    asyncio.run(_a_history(path))
    truth, content = _started(path), path.read_bytes()
    chance = random.Random(SEED)  # noqa: S311  # no secret: which bytes
    seen: Counter[str] = Counter()
    for at in _flips(content, chance, 200 if SOAK else 10):
        changed = bytearray(content)
        changed[at] ^= 1 << chance.randrange(8)
        (tmp_path / "changed").mkdir()
        copy = tmp_path / "changed/o.db"
        copy.write_bytes(changed)
        try:
            assert _started(copy) == truth, f"byte {at} (page {at // PAGE + 1})"
            seen["nothing that matters"] += 1
        except StorageUnreachable as fault:
            seen["refused at start"] += 1
            assert "\n" not in str(fault)
        except LedgerError as fault:
            seen[type(fault).__name__] += 1
        shutil.rmtree(tmp_path / "changed")
    print(dict(seen))  # noqa: T201  # the figures
    assert seen["refused at start"] and seen["SealBroken"]


async def _left_by_a_kill(path: Path, left: Path) -> list[bytes]:
    """A ledger as a killed process leaves it, everything in its log; the log's commits are of one order each."""
    async with a_ledger(path) as ledger:
        for at, key in enumerate(KEYS):
            order = await claimed(ledger, new_order(key, body=f"body-{at}".encode()))
            await ledger.settle(order, ENDED, end("placed", f"up-{at}", response=b"x" * 900))
        for _ in range(2):
            await ledger.beat()
        for name in (path.name, f"{path.name}-wal"):
            shutil.copyfile(path.with_name(name), left / name)
    return [(left / name).read_bytes() for name in (path.name, f"{path.name}-wal")]


@row(51, part="of the write-ahead log, in any frame")
def test_row_51_a_changed_byte_of_the_log_is_never_an_answer(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    database, log = asyncio.run(_left_by_a_kill(tmp_path / "o.db", tmp_path / "left"))
    truth = _started(tmp_path / "left/o.db")
    chance = random.Random(SEED)  # noqa: S311  # no secret: which bytes
    seen: Counter[str] = Counter()
    frames = (len(log) - LOG_HEADER) // FRAME
    assert frames > 50
    places = [LOG_HEADER + frame * FRAME + chance.randrange(FRAME) for frame in range(frames)]
    for at in [*range(LOG_HEADER), *places]:
        changed = bytearray(log)
        changed[at] ^= 1 << chance.randrange(8)
        (tmp_path / "changed").mkdir()
        (tmp_path / "changed/o.db").write_bytes(database)
        (tmp_path / "changed/o.db-wal").write_bytes(changed)
        for _again in range(2):
            try:
                assert _started(tmp_path / "changed/o.db") == truth, f"byte {at}"
                seen["nothing that matters"] += 1
            except StorageUnreachable as fault:
                seen["refused at start"] += 1
                assert "db check" in str(fault)
        shutil.rmtree(tmp_path / "changed")
    print(dict(seen))  # noqa: T201  # the figures
    # Bytes that nothing reads, and the last commit, of which a power cut leaves parts as well.
    assert seen["nothing that matters"] < seen["refused at start"] / 5


@row(51, part="the real program", answer="exit 5 naming `ordergate db check`, each time it is started")
@pytest.mark.parametrize("file", ["", "-wal"], ids=["database", "log"])
def test_row_51_the_program_ends_and_leaves_the_damage_as_it_is(file: str) -> None:
    with a_shop() as shop:
        for at in range(4):
            shop.place(f"m{at}")
        shop.stack.process.kill()
        if not file:
            shop.stack.start()
            shop.stack.process.stop()  # folds the log into the database
        damaged = shop.ledger.with_name(shop.ledger.name + file)
        whole = damaged.read_bytes()
        at = 100 if not file else LOG_HEADER + 3 * FRAME + 100
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        changed = damaged.read_bytes()
        for _again in range(2):
            process = Process(shop.stack.environ, shop.stack.folder)
            assert process.wait() == BROKEN_STATUS, process.log
            (said,) = process.log
            assert "ordergate db check" in said["text"]
        assert damaged.read_bytes() == changed
        damaged.write_bytes(whole)
        shop.stack.start()
        shop.promise_holds()


# --- files that are gone -------------------------------------------------------------------------------------------


def _replaced(path: Path) -> None:
    beside = path.with_name("beside")
    shutil.copyfile(path, beside)
    beside.replace(path)


def _removed(path: Path) -> None:
    path.unlink()


@row(
    52,
    fault="the log, its index, the lock or the database is deleted or replaced while the program runs",
    answer="503 `ledger-unavailable` or `draining`, `not_placed`",
    holds="noticed within 2 s: the process ends with 5, and sends nothing from then on",
)
@pytest.mark.parametrize(
    ("file", "does"),
    [("", _removed), ("", _replaced), ("-wal", _removed), ("-shm", _removed), (".owner", _removed)],
    ids=["database deleted", "database replaced", "log deleted", "index deleted", "lock deleted"],
)  # fmt: skip
def test_row_52_a_ledger_whose_files_are_gone_is_left(file: str, does: Callable[[Path], None]) -> None:
    with a_shop(program=SERVE) as shop:
        shop.place("before")
        does(shop.ledger.with_name(shop.ledger.name + file))
        wait_until(lambda: shop.stack.process.ended, "the process to end")
        assert shop.stack.process.wait() == BROKEN_STATUS
        assert shop.taken() == ["before"]
        reasons = [line for line in shop.stack.process.log if "removed or replaced" in line.get("error", "")]
        assert reasons, shop.stack.process.log[-5:]
        shop.stack.start()
