"""The master key's file of several versions: whole at every moment, and taken as nothing else than what was written."""

import hashlib
import os
from pathlib import Path

import pytest

from gateway.broker.key_file import MOST_BYTES, KeyFile
from gateway.clock import SystemClock
from gateway.errors import BadSettings, MasterKeyMissing, Refused

CLOCK = SystemClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as a first start makes it."""
    path = tmp_path / "master.key"
    KeyFile(path, CLOCK).read(may_create=True)
    return path


def file(path: Path) -> KeyFile:
    return KeyFile(path, CLOCK)


def grown(path: Path, *versions: int) -> None:
    with file(path).turning() as turning:
        for version in versions:
            turning.add(version)


def test_a_file_of_one_version_is_its_bytes(path: Path) -> None:
    assert len(path.read_bytes()) == 32
    assert file(path).read().versions == (1,)


def test_versions_are_added_and_the_first_stays_what_it_was(path: Path) -> None:
    material = path.read_bytes()
    first = file(path).read().of_version(1).expand(b"x")
    grown(path, 2, 3)
    found = file(path).read()
    assert (found.versions, found.newest) == ((1, 2, 3), 3)
    assert found.of_version(1).expand(b"x") == first
    assert len({found.of_version(version).expand(b"x") for version in found.versions}) == 3
    assert path.stat().st_mode & 0o7777 == 0o600
    lines = path.read_text().splitlines()
    assert lines[:2] == ["ordergate master key", f"1 {material.hex()}"]
    text = "".join(f"{line}\n" for line in lines[:-1])
    assert lines[-1] == f"check {hashlib.sha256(text.encode()).hexdigest()[:16]}", "as the page says"


def test_the_others_are_gone_when_one_alone_is_kept(path: Path) -> None:
    grown(path, 2)
    with file(path).turning() as turning:
        turning.keep_only(2)
    assert file(path).read().versions == (2,)
    with pytest.raises(MasterKeyMissing, match="version 1 of the master key is needed, and the file holds 2"):
        file(path).read().of_version(1)


def test_a_file_cut_at_any_length_is_refused_and_so_is_any_changed_byte(path: Path) -> None:
    grown(path, 2)
    whole = path.read_bytes()
    for length in range(len(whole)):
        if length == 32:
            continue  # cannot be told from another key, which the ledger does not open with
        path.write_bytes(whole[:length])
        with pytest.raises(BadSettings, match=f"is {length} bytes long, not 32"):
            file(path).read()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        with pytest.raises(BadSettings, match="no whole list of versions: restore it from its backup"):
            file(path).read()
    path.write_bytes(whole)
    assert file(path).read().versions == (1, 2)


def test_who_changes_it_is_alone_from_the_first_moment_to_the_last(path: Path) -> None:
    with file(path).turning() as turning:
        for version in (None, 2, 3):
            if version is not None:
                turning.add(version)
            with pytest.raises(Refused, match="another process is changing it right now"), file(path).turning():
                pass
    with file(path).turning():
        pass


def test_a_file_that_was_replaced_while_it_was_locked_is_not_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that begin at once the second may get the lock on what the first has just replaced."""
    opened = os.open

    def overtaken(name: Path, *args: int, **options: int) -> int:
        descriptor = opened(name, *args, **options)
        if name == path:
            monkeypatch.setattr(os, "open", opened)
            grown(path, 2)
        return descriptor

    monkeypatch.setattr(os, "open", overtaken)
    with pytest.raises(Refused, match="has just changed it"), file(path).turning():
        pass
    assert file(path).read().versions == (1, 2)


def test_what_killed_processes_left_beside_it_is_removed(path: Path) -> None:
    other = path.with_name("other.key")
    other.write_bytes(b"x")
    for name in (".master.key.next", f".master.key.123.{'a' * 16}"):
        path.with_name(name).write_bytes(path.read_bytes())
    with file(path).turning():
        assert sorted(path.parent.iterdir()) == [path, other]
    grown(path, 2)
    assert sorted(path.parent.iterdir()) == [path, other]


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(os, "write", lambda *_: 3)
    with pytest.raises(BadSettings, match="cannot be written: No space left"), file(path).turning() as turning:
        turning.add(2)
    monkeypatch.undo()
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_it_is_durable_before_it_stands_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):

        def noted(*args: object, name: str = name, do: object = getattr(os, name)) -> None:
            done.append(name)
            do(*args)  # type: ignore[operator]  # a function of os

        monkeypatch.setattr(os, name, noted)
    grown(path, 2)
    # And the last one: the folder. The first: that of the file as it was read.
    assert done[-3:] == ["fsync", "replace", "fsync"]


def test_a_file_full_of_versions_takes_no_more_and_says_what_to_do(path: Path) -> None:
    with pytest.raises(Refused, match="--drop-old"), file(path).turning() as turning:
        for version in range(2, 1000):
            turning.add(version)
    assert path.stat().st_size <= MOST_BYTES
    assert file(path).read().newest > 100


def test_there_is_a_last_version(path: Path) -> None:
    with pytest.raises(Refused, match="no further version"), file(path).turning() as turning:
        turning.add(65_536)
