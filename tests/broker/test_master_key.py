"""The master key's file: made once, whole and durable, whoever starts first; refused where others may use it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway.broker.key_file import KeyFile
from gateway.broker.vault import MasterKey, Vault
from gateway.clock import SystemClock
from gateway.errors import BadSettings

CLOCK = SystemClock()
ROOT = Path(gateway.__file__).parents[1]
PLACE = {"table": "upstream_keys", "row": "k1", "column": "secret"}


def load(path: Path, may_create: bool, clock: SystemClock = CLOCK) -> Vault:
    """A vault under the file's one version."""
    return Vault(KeyFile(path, clock).read(may_create=may_create).of_version(1), clock)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def refusal(path: Path, *, may_create: bool = True) -> str:
    with pytest.raises(BadSettings) as caught:
        load(path, may_create)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"secrets.master_key_file: {path}: ")
    return str(caught.value)


def key_file(path: Path, *, content: bytes = bytes(range(32)), mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "var" / "keys" / "master.key"
    before = os.umask(umask)
    try:
        made = load(path, True)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert len(path.read_bytes()) == 32
    assert list(path.parent.iterdir()) == [path]
    again = load(path, False)
    assert again.open(made.seal(b"x", **PLACE), **PLACE) == b"x"
    assert load(path, True).check_value() == made.check_value()


def test_a_missing_key_is_not_made_where_it_may_not_be(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "var" / "master.key", may_create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wide", [0o601, 0o604, 0o620, 0o640, 0o644, 0o666, 0o660])
def test_a_key_open_to_others_is_refused(tmp_path: Path, wide: int) -> None:
    assert f"has mode {wide:04o}" in refusal(key_file(tmp_path / "master.key", mode=wide))


@pytest.mark.parametrize("narrow", [0o600, 0o400])
def test_a_narrow_mode_is_taken(tmp_path: Path, narrow: int) -> None:
    load(key_file(tmp_path / "master.key", mode=narrow), False)


@pytest.mark.parametrize("size", [0, 31, 33, 64, 1_000_000])
def test_another_size_is_refused_and_left_as_it_is(tmp_path: Path, size: int) -> None:
    path = key_file(tmp_path / "master.key", content=b"k" * size)
    assert f"is {size} bytes long, not 32" in refusal(path)
    assert path.read_bytes() == b"k" * size


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_refused(tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "elsewhere"
    if not dangling:
        key_file(target)
    link = tmp_path / "master.key"
    link.symlink_to(target)
    assert "is a symbolic link" in refusal(link)
    assert target.exists() is not dangling


def test_a_pipe_or_a_directory_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    assert "is not a regular file" in refusal(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "directory")
    assert "cannot be used: Not a directory" in refusal(key_file(tmp_path / "file") / "master.key")


def test_another_users_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path / "master.key")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert f"belongs to user {path.stat().st_uid}" in refusal(path)


def test_a_directory_that_everybody_may_write_to_is_refused_unless_sticky(tmp_path: Path) -> None:
    directory = tmp_path / "var"
    directory.mkdir()
    path = key_file(directory / "master.key")
    directory.chmod(0o777)
    assert "everybody may write to" in refusal(path)
    directory.chmod(0o1777)
    load(path, False)


START = """
import sys
from pathlib import Path
from gateway.broker.key_file import KeyFile
from gateway.broker.vault import Vault
from gateway.clock import SystemClock
print("ready", flush=True)
sys.stdin.readline()
key = KeyFile(Path(sys.argv[1]), SystemClock()).read(may_create=True).of_version(1)
print(Vault(key, SystemClock()).check_value().hex())
"""


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    for turn in range(5):
        path = tmp_path / str(turn) / "var" / "master.key"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", START, str(path)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        values = {process.communicate()[0] for process in processes}
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert len(values) == 1
        assert [file.name for file in path.parent.iterdir()] == ["master.key"]


def test_whoever_is_slower_keeps_the_key_of_whoever_was_faster(tmp_path: Path) -> None:
    path = tmp_path / "master.key"

    class Overtaken(SystemClock):
        """Another process makes the key after this one looked and before it links its own into place."""

        def random_bytes(self, count: int) -> bytes:
            if count == 32:
                key_file(path)
            return super().random_bytes(count)

    late = load(path, True, Overtaken())
    assert path.read_bytes() == bytes(range(32))
    assert late.check_value() == Vault(MasterKey(bytes(range(32))), CLOCK).check_value()
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_cannot_be_made_durable_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert "cannot be used: Input/output error" in refusal(tmp_path / "master.key")
    assert list(tmp_path.iterdir()) == []
