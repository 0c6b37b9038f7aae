"""`scripts/venv`, which installs everything, takes nothing whose hash is not the locked one."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.needs import needs

ROOT: Final = Path(__file__).resolve().parents[2]


def wheel(folder: Path, name: str) -> str:
    """Writes a wheel with one module in it; its sha256. Made here, so that no network is needed."""
    facts = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": b"ANSWER = 42\n",
        f"{facts}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{facts}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{file},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for file, data in files.items()
    ]
    files[f"{facts}/RECORD"] = "\n".join([*rows, f"{facts}/RECORD,,\n"]).encode()
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def venv(verb: str, folder: Path, name: str, digest: str, uv: str | None) -> subprocess.CompletedProcess[str]:
    lock = folder / "lock.txt"
    lock.write_text(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n")
    # Both installers look into `folder` alone, and keep no cache that could hide a changed file.
    surroundings = {
        "PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(folder),
        "UV_NO_CONFIG": "1",
        "UV_NO_CACHE": "1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV"))}
    return subprocess.run(
        [ROOT / "scripts/venv", verb, folder / "env", lock],
        env=inherited | surroundings | ({} if uv is None else {"UV": uv}),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("uv", [None, pytest.param("", marks=needs("ensurepip"))], ids=["as on PATH", "pip"])
def test_package_with_another_hash_is_not_installed(tmp_path: Path, uv: str | None) -> None:
    good, other = wheel(tmp_path, "good_sample"), wheel(tmp_path, "other_sample")
    changed = ("1" if other[0] == "0" else "0") + other[1:]

    accepted = venv("make", tmp_path, "good_sample", good, uv)
    assert accepted.returncode == 0, accepted.stderr
    assert list((tmp_path / "env").glob("lib/*/site-packages/good_sample.py"))

    refused = venv("add", tmp_path, "other_sample", changed, uv)
    assert refused.returncode != 0, "a package with another hash than the locked one was installed"
    assert "hash" in refused.stderr.lower()
    assert not list((tmp_path / "env").glob("lib/*/site-packages/other_sample.py"))


def test_interrupted_addition_leaves_no_stamp(tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.mkdir()
    (env / ".installed-runtime-1").touch()
    # There is no bin/python in it: the installation fails half-way, as an interrupted one would.
    assert venv("add", tmp_path, "good_sample", wheel(tmp_path, "good_sample"), None).returncode != 0
    assert not list(env.glob(".installed-*")), "make would take a half-made environment for a whole one"


def test_machine_without_a_fitting_python_is_told_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    told = subprocess.run(
        ["/bin/sh", ROOT / "scripts/venv", "make", tmp_path / "env", "lock.txt"],
        env={"PATH": str(tmp_path), "UV": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1
    assert told.stderr.startswith("error: no Python 3.11 or newer")
    assert len(told.stderr.splitlines()) == 1
