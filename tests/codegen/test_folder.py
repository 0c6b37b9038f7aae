"""What stands in `generated/` is what the page makes, and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from .conftest import PAGE, ROOT, Codegen

GENERATED = ROOT / "generated"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The committed folder, to be spoilt."""
    folder = tmp_path / "generated"
    shutil.copytree(GENERATED, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_committed_folder_is_what_the_committed_page_makes(codegen: Codegen) -> None:
    ran = codegen("--check")
    assert ran == (0, "", ""), ran.err


def test_output_is_the_same_wherever_and_however_it_is_made(codegen: Codegen, tmp_path: Path) -> None:
    # A settings file of another project in the folder above must not reach the formatter.
    (tmp_path / "pyproject.toml").write_text(
        "[tool.ruff]\nline-length = 40\n[tool.datamodel-codegen]\nuse-title-as-name = true\n"
    )
    out = tmp_path / "deep" / "er" / "out"
    work = tmp_path / "work"
    work.mkdir()
    ran = codegen("--out", out, TMPDIR=str(work), PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    assert ran == (0, "", "")
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    committed = {path.name: path.read_bytes() for path in GENERATED.iterdir() if path.is_file()}
    assert made == committed
    assert [path.name for path in out.parent.iterdir()] == ["out"], "something was left beside the folder"


def test_every_file_says_where_it_comes_from(codegen: Codegen) -> None:
    for path in (path for path in GENERATED.iterdir() if path.is_file()):
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:6])
        assert re.search(r"do not edit", head), path
        assert re.search(r"SHA-256 [0-9a-f]{64}", head), path
        assert "make generate" in head, path


def test_check_names_changed_missing_and_stray_files_and_changes_none(codegen: Codegen, copy: Path) -> None:
    with (copy / "models.py").open("a") as file:
        file.write("# by hand\n")
    (copy / "schemas.py").unlink()
    (copy / "more").mkdir()
    (copy / "more" / "stray.py").write_text("")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "models.cpython-311.pyc").write_text("")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    ran = codegen("--check", "--out", copy)
    assert ran.code == 1
    assert ran.err.splitlines() == [
        f"{copy}/models.py: differs",
        f"{copy}/more/stray.py: stray, nothing generates it",
        f"{copy}/schemas.py: missing",
        f"mend it with: .venv-codegen/bin/python -m codegen --out {copy}",
    ]
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    assert codegen("--out", copy).code == 0
    assert codegen("--check", "--out", copy).code == 0, "the command that was named mends it"


def test_a_folder_that_is_not_there_is_missing_all(codegen: Codegen, tmp_path: Path) -> None:
    ran = codegen("--check", "--out", tmp_path / "none")
    assert ran.code == 1
    assert ran.err.count(": missing\n") == 5


def test_a_fault_in_the_input_leaves_the_folder_as_it_was(codegen: Codegen, copy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "page.md"
    broken.write_text(PAGE.read_text().replace("openapi: 3.0.0", "openapi: 4.0.0"))
    before = {path: path.read_bytes() for path in copy.iterdir()}
    ran = codegen(broken, "--out", copy)
    assert ran.code == 2
    assert {path: path.read_bytes() for path in copy.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generated", "page.md"]


def test_a_folder_that_it_did_not_write_is_left_alone(codegen: Codegen, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    ran = codegen("--out", mine)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "left alone" in ran.err
    assert [path.name for path in mine.iterdir()] == ["letter.txt"]


def test_the_page_is_kept_as_published() -> None:
    attributes = (ROOT / ".gitattributes").read_text()
    assert "codegen/spec/* -text" in attributes, "git would change the bytes that the digest is taken of"
