"""What goes wrong around a command: bad settings, no storage, a reader that left, a full disk, a defect."""

import os
import pty
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import LedgerBusy
from tests.cli.conftest import COMMAND, Program


def test_every_bad_setting_is_told_and_the_status_is_3(program: Program) -> None:
    file = program.folder / "bad.yaml"
    file.write_text("tenant_api:\n  port: many\nupstreem: {}\n")
    for arguments in (("--config", "bad.yaml", "team", "list"), ("team", "list", "--config", "bad.yaml", "--json")):
        done = program(*arguments, ORDERGATE_LOG__LEVEL="loud")
        assert (done.status, done.out) == (3, "")
        places = [line.partition(" ")[0] for line in done.err.splitlines()]
        assert places == ["bad.yaml:2:9:", "bad.yaml:3:1:", "$ORDERGATE_LOG__LEVEL:1:1:"]
    assert not (program.folder / "var").exists()


def test_settings_named_nearest_to_the_verb_are_read(program: Program) -> None:
    for name in ("far", "near"):
        (program.folder / f"{name}.yaml").write_text(f"storage:\n  url: sqlite:///{name}/ledger.db\n")
    assert program("--config", "far.yaml", "team", "--config", "near.yaml", "list", "--json").value == []
    assert (program.folder / "near").is_dir()
    assert not (program.folder / "far").exists()


@pytest.mark.parametrize("arguments", [("orders", "list"), ("team", "add", "sales"), ("doctor",)])
def test_storage_that_is_none_has_status_5(program: Program, arguments: tuple[str, ...]) -> None:
    (program.folder / "var").mkdir(mode=0o700)
    (program.folder / "var/ordergate.db").write_text(
        "not a ledger, and long enough to be read as a database's head" * 9
    )
    assert program.within(*arguments).status == 5


def test_damaged_ledger_has_status_5(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    with (program.folder / "var/ordergate.db").open("r+b") as ledger:
        ledger.seek(4_096)
        ledger.write(b"\xa5" * 4_096 * 18)
    for arguments in (("team", "list"), ("orders", "list"), ("doctor",)):
        done = program.within(*arguments)
        assert done.status == 5, done
        assert "defect" not in done.err


def test_reader_that_leaves_ends_the_command_quietly(program: Program) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, "orders", "list"]
    done = subprocess.run(command, cwd=program.folder, env=program.environ, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_fails_in_one_line(program: Program) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "config", "show"]
        done = subprocess.run(command, cwd=program.folder, env=program.environ, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"No space left" in done.stderr


def test_closed_standard_streams_are_no_defect(program: Program) -> None:
    for shell, status in (('exec "$@" >&-', 0), ('exec "$@" 2>&- <&-', 0)):
        command = ["sh", "-c", shell, "sh", *COMMAND, "team", "list"]
        assert subprocess.run(command, cwd=program.folder, env=program.environ).returncode == status
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "key", "add", "sales"]
    done = subprocess.run(command, cwd=program.folder, env=program.environ, capture_output=True)
    assert done.returncode == 2, done.stderr


def test_arguments_that_are_no_text_are_a_usage_error(program: Program) -> None:
    command = [*(part.encode() for part in COMMAND), b"orders", b"list", b"--tenant", b"\xff"]
    done = subprocess.run(command, cwd=program.folder, env=program.environ, capture_output=True)
    assert done.returncode == 2, done.stderr


def test_key_typed_at_a_terminal_is_not_shown(program: Program) -> None:
    with program.administration() as admin:
        admin.add_team("sales")
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "key", "add", "sales"],
        cwd=program.folder,
        env=program.environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # no terminal but this one to ask
    )
    os.close(theirs)
    shown = b""
    while b":" not in shown:
        shown += os.read(mine, 1_024)
    os.write(mine, b"sandbox-key-canary\n")
    try:
        while more := os.read(mine, 1_024):
            shown += more
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(mine)
    assert process.wait(60) == 0, shown
    assert b"canary" not in shown
    with program.administration() as admin:
        assert len(admin.keys("sales")) == 1


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (LedgerBusy("another process holds the ledger"), 5, "the ledger: another process holds the ledger\n"),
        (
            ValueError("a customer's name"),
            1,
            "a defect of Ordergate: ValueError; the same command with --traceback",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_unexpected_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, fault: BaseException, status: int, said: str
) -> None:
    def broken() -> None:
        raise fault

    monkeypatch.setattr("gateway.cli.team.administration", broken)
    done = CliRunner().invoke(main.ordergate, ["team", "list", "--json"])
    assert (done.exit_code, done.stdout) == (status, "")
    assert done.stderr.startswith(said)
    assert "customer" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_traceback_is_there_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError

    monkeypatch.setattr("gateway.cli.team.administration", broken)
    with pytest.raises(ValueError):
        CliRunner().invoke(main.ordergate, ["team", "list", "--traceback"], catch_exceptions=False)


def test_context_of_one_command_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main.ordergate, ["team", "list", "--json"]).stdout == "[]\n"
    assert CliRunner().invoke(main.ordergate, ["team", "list"]).stdout == "team  created\n"
    with pytest.raises(RuntimeError):
        click.get_current_context()
