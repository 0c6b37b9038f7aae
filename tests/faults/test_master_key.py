"""Row 83: a master key that does not fit the ledger. Nothing is served, and the line says what is missing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.broker.key_file import KeyFile
from gateway.clock import SystemClock
from gateway.sandbox import SandboxThread
from tests.cli.conftest import Program
from tests.faults.matrix import row
from tests.support.stack import Stack, an_order, running_stack

CLOCK = SystemClock()


class Shop:
    """A ledger with one placed order, rotated twice, its gateway stopped; and the key files of all times."""

    def __init__(self, stack: Stack, sandbox: SandboxThread) -> None:
        self.stack = stack
        self.sandbox = sandbox
        self.key_file = stack.folder / "var/master.key"
        self.program = Program(stack.folder, stack.environ)
        self.kept: dict[str, bytes] = {}
        self.keep("first")
        assert self.program("secrets", "rotate").status == 0
        self.keep("both")
        assert self.program("db", "backup", "under-2.db").status == 0
        assert self.program("secrets", "rotate", "--drop-old").status == 0
        self.keep("newest")

    def keep(self, name: str) -> None:
        self.kept[name] = self.key_file.read_bytes()

    def put(self, content: bytes) -> None:
        self.key_file.write_bytes(content)

    def refusal(self) -> str:
        """What `serve` says where it does not start: one line. The other commands say the same."""
        done = self.program("serve")
        assert (done.status, done.out) == (3, "")
        assert done.err.startswith("secrets.master_key_file") and done.err.count("\n") == 1, done.err
        other = self.program("team", "list", "--json")
        assert (other.status, other.out, other.err) == (3, "", done.err)
        return done.err


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with SandboxThread() as sandbox, running_stack(upstream_base_url=sandbox.base_url) as stack:
        with stack.client() as client:
            placed = client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})
            assert placed.status_code == 201
        stack.process.stop()
        yield Shop(stack, sandbox)
        stack.start()


@pytest.fixture(autouse=True)
def whole_again(shop: Shop) -> Iterator[None]:
    """Nothing that was refused has changed anything: with its own key file the ledger serves."""
    yield
    shop.key_file.unlink(missing_ok=True)
    shop.put(shop.kept["newest"])
    shop.key_file.chmod(0o600)
    shop.stack.start()
    with shop.stack.client() as client:
        again = client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert shop.stack.process.stop() == 0
    assert len(shop.sandbox.orders) == 1


Spoil = Callable[[Shop], None]
REFUSED: dict[str, tuple[Spoil, str]] = {
    "gone": (lambda shop: shop.key_file.unlink(), "is not there"),
    "another one": (lambda shop: shop.put(bytes(range(32))), "of the master key is needed, and the file holds 1"),
    "another one of the same version": (
        lambda shop: shop.put(_another(shop)),
        "this ledger was written under another master key",
    ),
    "the one from before every rotation": (
        lambda shop: shop.put(shop.kept["first"]),
        "of the master key is needed, and the file holds 1",
    ),
    "the one from before the last rotation": (
        lambda shop: shop.put(shop.kept["both"]),
        "of the master key is needed, and the file holds 1, 2",
    ),
    "cut off": (lambda shop: shop.put(shop.kept["newest"][:60]), "no whole list of versions"),
    "cut off after a version": (
        lambda shop: shop.put(b"\n".join(shop.kept["both"].split(b"\n")[:2]) + b"\n"),
        "no whole list of versions",
    ),
    "open to others": (lambda shop: shop.key_file.chmod(0o640), "has mode 0640"),
}


def _another(shop: Shop) -> bytes:
    """A key file of somebody else's that was rotated as often."""
    version = KeyFile(shop.key_file, CLOCK).read().newest
    path = shop.stack.folder / f"another-{version}.key"
    file = KeyFile(path, CLOCK)
    file.read(may_create=True)
    with file.turning() as turning:
        turning.add(version)
        turning.keep_only(version)
    return path.read_bytes()


@row(
    83,
    part="it does not fit",
    fault="the master key's file is gone, another one, from before a rotation, cut off, or open to others",
    answer="exit 3 and one line that says what is needed and what is there, of `serve` and of every command",
    holds="nothing is changed: with its own file the ledger serves, and replays what it placed",
)
@pytest.mark.parametrize("name", REFUSED)
def test_row_83_a_master_key_that_does_not_fit_starts_nothing(shop: Shop, name: str) -> None:
    spoil, said = REFUSED[name]
    spoil(shop)
    assert said in shop.refusal()


@row(
    83,
    part="a backup of another version",
    fault="a backup from before a rotation is restored, whose version is not in the file any more; or still is",
    answer="exit 3, saying which version is missing; or it is restored",
    holds="the ledger that stood there stays where the version is missing",
)
def test_row_83_a_backup_whose_version_is_missing_is_refused(shop: Shop, tmp_path: Path) -> None:
    before = shop.program("db", "check").out
    done = shop.program("db", "restore", "under-2.db")
    assert done.status == 3 and "version 2 of the master key is needed, and the file holds" in done.err
    assert done.err.count("\n") == 1
    assert shop.program("db", "check").out == before
    elsewhere = {
        **shop.stack.environ,
        "ORDERGATE_STORAGE__URL": f"sqlite:///{tmp_path / 'restored.db'}",
        "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(tmp_path / "master.key"),
    }
    (tmp_path / "master.key").write_bytes(shop.kept["both"])
    (tmp_path / "master.key").chmod(0o600)
    other = Program(tmp_path, elsewhere)
    restored = other("db", "restore", str(shop.stack.folder / "under-2.db"))
    assert restored.status == 0, restored
    assert other("db", "check").status == 0
    rotated = other("secrets", "rotate", "--json")
    assert (rotated.status, rotated.value["from"], rotated.value["version"]) == (0, 2, 3)
    assert other("db", "check").status == 0 and other("audit", "verify").status == 0


@row(
    83,
    part="rotated half-way",
    fault="a rotation was killed after its new version was in the file",
    answer="it starts; the next `secrets rotate` ends it",
    holds="the ledger stands under the old version until then",
)
def test_row_83_a_rotation_that_was_cut_off_goes_on(shop: Shop) -> None:
    version = KeyFile(shop.key_file, CLOCK).read().newest
    with KeyFile(shop.key_file, CLOCK).turning() as turning:
        turning.add(version + 1)
    shop.stack.start()
    with shop.stack.client() as client:
        again = client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})
    assert again.headers["idempotent-replayed"] == "true"
    assert shop.stack.process.stop() == 0
    done = shop.program("secrets", "rotate", "--drop-old", "--json")
    assert (done.status, done.value["from"], done.value["version"]) == (0, version, version + 1)
    shop.keep("newest")
    for name in ("another one", "the one from before every rotation"):
        spoil, _ = REFUSED[name]
        spoil(shop)
        assert f"version {version + 1} of the master key is needed" in shop.refusal()
