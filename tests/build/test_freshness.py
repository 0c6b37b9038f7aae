"""`make check` sees every way in which `generated/` can differ from what the generator makes."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("change", ["edited", "stray", "missing"])
def test_generated_code_that_was_touched_is_refused(tmp_path: Path, change: str) -> None:
    for folder in ("codegen", "generated"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    models = tmp_path / "generated/models.py"
    if change == "edited":
        models.write_text(models.read_text() + "\nEDITED = True\n")
    elif change == "stray":
        (tmp_path / "generated/stray.py").write_text("")
    else:
        models.unlink()
    checked = subprocess.run([ROOT / ".venv-codegen/bin/python", "-m", "codegen", "--check"], cwd=tmp_path)
    assert checked.returncode == 1, f"generated/ was {change}, and the check did not say so"
