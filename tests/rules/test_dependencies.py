"""What the program is built from: few dependencies, each with a reason, each locked by hash, each as installed."""

import re
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.rules.source import ROOT, report

MOST: Final = 12
NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
PINNED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==(?P<version>[\w.!+]+)(?: ; .+)? \\$")
HASH: Final = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
# What may run code, or widen the path, at every start of Python: the file's name and the one line it may hold.
START_FILES: Final[Mapping[str, str]] = {
    "_editable_impl_ordergate.pth": str(ROOT),
    "_ordergate.pth": str(ROOT),
    "_virtualenv.pth": "import _virtualenv",
    "distutils-precedence.pth": (
        "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
        "enabled and __import__('_distutils_hack').add_shim();"
    ),
}


def direct() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [normal(match.group()) for line in project["dependencies"] if (match := NAME.match(line))]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unlocked(text: str) -> Iterator[str]:
    """Lines of a lock file that are not `name==version` followed by its hashes, and nothing else."""
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        follows = lines[number] if number < len(lines) else ""
        last_hash = bool(HASH.match(line)) and not line.endswith("\\")
        if not (PINNED.match(line) or HASH.match(line)):
            yield f"line {number}: {line!r}: neither a version nor a sha256: whoever serves it decides what runs"
        elif not last_hash and not HASH.match(follows):
            yield f"line {number}: {line!r}: no hash follows: whoever serves it decides what runs"


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    found = (PINNED.match(line) for line in text.splitlines())
    return {normal(match["name"]): match["version"] for match in found if match}


def unexpected_start_files(packages: Path) -> Iterator[str]:
    for path in sorted(packages.iterdir()):
        if path.name.split(".")[0] in ("sitecustomize", "usercustomize"):
            yield f"{path.name}: runs at every start of Python, before anything of ours"
        elif path.suffix == ".pth" and set(path.read_text("utf-8").split("\n")) - {"", START_FILES.get(path.name)}:
            yield f"{path.name}: runs at every start of Python: stolen releases hid their code in such a file"


def test_unlocked_line_is_refused() -> None:
    digest = "    --hash=sha256:" + "0" * 64
    report(unlocked(f"a==1.0 \\\n{digest} \\\n{digest}\nb[x]==2 ; python_version < '3.12' \\\n{digest}\n"))
    for text in (
        "a==1.0",
        "a==1.0 \\\nb==2 \\\n" + digest,
        "a>=1.0 \\\n" + digest,
        "a @ https://example.invalid/a.whl \\\n" + digest,
        "--index-url https://example.invalid/simple",
        "a==1.0 \\\n    --hash=md5:" + "0" * 32,
        "a==1.0 \\\n" + digest + " \\",
    ):
        assert list(unlocked(text)), text


def test_every_requirement_is_locked_by_hash() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert [lock.stem for lock in locks] == ["codegen", "dev", "runtime"]
    report(f"{lock.name}, {complaint}" for lock in locks for complaint in unlocked(lock.read_text("utf-8")))


def test_tests_run_what_operators_run() -> None:
    runtime, dev = pins("runtime.txt"), pins("dev.txt")
    report(
        f"{name} is {version} in runtime.txt and {dev.get(name)} in dev.txt: the tests would judge another program"
        for name, version in runtime.items()
        if dev.get(name) != version
    )


def test_direct_dependencies_are_few_locked_and_explained() -> None:
    page = (ROOT / "docs/dependencies.md").read_text("utf-8")
    asked = (ROOT / "requirements/runtime.in").read_text("utf-8").split()
    assert len(direct()) <= MOST, (
        f"{len(direct())} direct dependencies, at most {MOST}: each can be stolen or broken"
    )
    assert {normal(name) for name in asked} == {*direct(), "hatchling", "editables"}, "runtime.in ≠ pyproject.toml"
    report(
        f"{name} has no line in docs/dependencies.md: say what it does that we should not write ourselves"
        for name in direct()
        if f"| `{name}` |" not in page
    )
    report(
        f"{name} is not in requirements/runtime.txt: make lock"
        for name in direct()
        if name not in pins("runtime.txt")
    )


def test_start_file_of_a_stranger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_virtualenv.pth").write_text("import _virtualenv")
    (tmp_path / "harmless.py").write_text("")
    report(unexpected_start_files(tmp_path))
    (tmp_path / "helper_init.pth").write_text("import os; os.system('true')")
    (tmp_path / "sitecustomize.py").write_text("")
    assert len(list(unexpected_start_files(tmp_path))) == 2
    (tmp_path / "_virtualenv.pth").write_text("import _virtualenv; import os")
    assert len(list(unexpected_start_files(tmp_path))) == 3


def test_nothing_unknown_runs_at_the_start_of_python() -> None:
    report(unexpected_start_files(Path(sysconfig.get_path("purelib"))))
