"""`ordergate doctor`: each check good and failed, and the exit status that follows."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.broker.key_file import KeyFile
from gateway.broker.vault import Secret
from gateway.cli import checks
from gateway.cli.upstream_checks import _compare
from gateway.clock import SystemClock, rfc3339
from gateway.sandbox import SandboxThread
from tests.cli.conftest import Program
from tests.cli.test_long_running import taken_port
from tests.support.stack import an_order


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxThread]:
    with SandboxThread() as running:
        yield running


@pytest.fixture
def program(tmp_path: Path, sandbox: SandboxThread) -> Program:
    return Program(tmp_path, {"ORDERGATE_UPSTREAM__BASE_URL": sandbox.base_url})


def failed(program: Program, status: int) -> dict[str, str]:
    """What failed, by check."""
    done = program.within("doctor")
    assert done.status == status, done
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert {word for word, _ in lines} <= {"ok", "failed"}
    return dict(line.split(": ", 1) for word, line in lines if word == "failed")


def test_all_is_well_with_a_key_that_offergrid_accepts(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
        admin.add_key("sales", Secret("sandbox-key-sales"))
    done = program("doctor", "--json").value
    assert [one["check"] for one in done] == [
        "settings", "ledger", "master key", "mark", "disk", "file system", "tenant_api", "admin_api", "upstream",
        "clock", "key of sales",
    ]  # fmt: skip
    assert all(one.keys() == {"check", "ok", "detail"} and one["ok"] for one in done)


def test_before_the_first_start_all_is_well_and_nothing_is_made(program: Program) -> None:
    assert failed(program, 0) == {}
    assert list(program.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [("sandbox-revoked-1", "does not accept"), ("sandbox-provider-1", "role"), (None, "ordergate key add sales")],
)
def test_key_that_cannot_place_orders_fails_with_what_to_do(program: Program, key: str | None, said: str) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
        if key:
            admin.add_key("sales", Secret(key))
    found = failed(program, 1)
    assert found.keys() == {"key of sales"}
    assert said in found["key of sales"]
    assert key is None or key not in found["key of sales"]


def test_orders_of_another_ledger_fail_with_what_to_do(tmp_path: Path) -> None:
    with SandboxThread() as alone:
        program = Program(tmp_path, {"ORDERGATE_UPSTREAM__BASE_URL": alone.base_url})
        with program.administration() as admin:
            admin.add_team("sales")
            admin.add_key("sales", Secret("sandbox-key-sales"))

        def place(**metadata: str) -> None:
            order, headers = an_order(metadata=metadata), {"x-api-key": "sandbox-key-sales"}
            url = alone.base_url + "/reseller/orders"
            httpx.post(url, json=order, headers=headers, trust_env=False).raise_for_status()

        place()
        assert failed(program, 0) == {}
        place(gatewayLedger="another")
        found = failed(program, 1)
        assert found.keys() == {"account of sales"}
        assert "1 orders that another ledger placed" in found["account of sales"]


def test_ledger_behind_its_mark_and_one_in_quarantine_fail_and_nothing_is_changed(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
        admin.add_key("sales", Secret("sandbox-key-sales"))
    mark = program.folder / "var/ordergate.db.mark"
    assert failed(program, 0) == {}
    assert not mark.exists()
    mark.write_text('{"ledger":"another","beat":1}')
    assert "another ledger's" in failed(program, 1)["mark"]
    mark.unlink()
    assert program.within("db", "backup", str(program.folder / "b.db")).status == 0
    assert program.within("db", "restore", str(program.folder / "b.db")).status == 0
    assert "ordergate db rejoin" in failed(program, 1)["mark"]


def test_upstream_that_is_not_there_has_status_5(program: Program) -> None:
    with taken_port() as port:
        pass  # free again, and nobody listens
    program.environ["ORDERGATE_UPSTREAM__BASE_URL"] = f"http://127.0.0.1:{port}"
    assert "Connection refused" in failed(program, 5)["upstream"]


def test_bad_settings_have_status_3_and_stand_alone(program: Program) -> None:
    program.environ["ORDERGATE_LOG__LEVEL"] = "loud"
    program.environ["ORDERGATE_LOG__FORMAT"] = "paper"
    done = program("doctor", "--json")
    assert (done.status, done.err) == (3, "")
    assert done.out.count('"check":"settings","ok":false') == 2


def test_foreign_master_key_has_status_3_before_anything_else_that_fails(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    (program.folder / "var/master.key").write_bytes(bytes(32))
    program.environ["ORDERGATE_STORAGE__MIN_FREE_BYTES"] = str(1 << 50)
    found = failed(program, 3)
    assert found.keys() == {"master key", "disk"}
    assert "another master key" in found["master key"]


def test_a_rotation_that_was_cut_off_is_told_and_what_ends_it(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    with KeyFile(program.folder / "var/master.key", SystemClock()).turning() as turning:
        turning.add(2)
    found = failed(program, 1)
    assert "stands under version 1" in found["master key"] and "ordergate secrets rotate" in found["master key"]
    assert program.within("secrets", "rotate").status == 0
    assert "ok      master key" in " ".join(program.within("doctor").out.split("\n"))


def test_port_that_another_program_took_fails(program: Program) -> None:
    with taken_port() as port:
        program.environ["ORDERGATE_ADMIN_API__PORT"] = str(port)
        assert failed(program, 1).keys() == {"admin_api"}


def test_file_system_is_the_one_mounted_nearest_and_last() -> None:
    mounts = [("/", "ext4"), ("/srv", "ext4"), ("/srv", "nfs4"), ("/srv/fast", "xfs"), ("/srv2", "cifs")]
    found = {
        folder: checks._filesystem(Path(folder), mounts) for folder in ("/var", "/srv/a", "/srv/fast/b", "/srv2")
    }
    assert found == {"/var": "ext4", "/srv/a": "nfs4", "/srv/fast/b": "xfs", "/srv2": "cifs"}
    assert checks._filesystem(Path("/var"), []) == ""


def test_remote_file_system_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "_mounts", lambda: [("/", "nfs4")])
    check = checks.check_filesystem(tmp_path / "var/ordergate.db")
    assert (check.ok, check.status) == (False, 5)


def test_clock_is_compared_with_offergrids_date() -> None:
    class At(SystemClock):
        def wall_ms(self) -> int:
            return 1_767_323_045_000

    assert rfc3339(At().wall_ms()) == "2026-01-02T03:04:05.000Z"
    assert _compare("Fri, 02 Jan 2026 03:03:30 GMT", At()).ok
    ahead, behind = _compare("Fri, 02 Jan 2026 03:00:05 GMT", At()), _compare("Fri, 02 Jan 2026 04:04:05 GMT", At())
    assert (ahead.ok, behind.ok) == (False, False)
    assert "240 s ahead" in ahead.detail
    assert "3600 s behind" in behind.detail
    assert _compare("yesterday", At()).ok
