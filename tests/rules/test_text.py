"""What committed text may not hold: this machine's paths, download addresses, references into nowhere, excuses."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from tests.rules.source import ROOT, Source, committed, python, report, sample

# Put together here, so that this file does not break its own rule.
REGISTRIES: Final = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("crates", "io"),
    )
)
MACHINE_PATH: Final = re.compile(r"(?<![\w.-])/(?:work|root|home)/")
RESOLVED: Final = re.compile(r'"resolved":\s*"\w+:/')
# A tag into a list that is kept somewhere else; readers of this repository cannot look it up.
TAG: Final = re.compile(r"\((?:see )?H\d{1,2}(?:[-, ]+H?\d{1,2})*\)")
# In quotes it is a file's name in code, not a reference for a reader.
PAGE: Final = re.compile(r"""(?<![\w/.*{<"'-])[\w][\w./-]*\.md\b""")
EXCUSE: Final = re.compile(r"#\s*(?:type:\s*ignore|noqa)\b(?P<rest>.*)")
GIVEN_REASON: Final = re.compile(
    r"^(?:\[[\w, -]+\]|:\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)(?P<reason>.*)$",
)


def leaked_places(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            where = f"{source.path}:{number}"
            for host in REGISTRIES:
                if host in line:
                    yield f"{where}: names {host}: packages come by name and hash, from whatever mirror is set up"
            if MACHINE_PATH.search(line):
                yield f"{where}: an absolute path of one machine: it means nothing on any other"
            if RESOLVED.search(line):
                yield f"{where}: a lock with download addresses: set npm's omit-lockfile-registry-resolved"


def dead_references(sources: Iterable[Source], pages: frozenset[str]) -> Iterator[str]:
    """`pages` are the repository's Markdown files. One may be named from the root, from the same folder or bare."""
    bare = {page.rsplit("/", 1)[-1] for page in pages}
    for source in sources:
        folder = source.path.rpartition("/")[0]
        for number, line in enumerate(source.text.splitlines(), 1):
            where = f"{source.path}:{number}"
            if tag := TAG.search(line):
                yield f"{where}: {tag.group()} points into a list that is not here: say the thing itself"
            for page in PAGE.findall(line):
                known = page in pages or f"{folder}/{page}" in pages or page in bare
                if not known and "://" not in line:
                    yield f"{where}: names {page}, which is not in the repository"


def bare_excuses(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        comments = [
            token
            for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
            if token.type == tokenize.COMMENT
        ]
        own_line = {token.start[0] for token in comments if not token.line[: token.start[1]].strip()}
        for token in comments:
            if not (excuse := EXCUSE.search(token.string)):
                continue
            given = GIVEN_REASON.match(excuse["rest"].strip())
            reason = given["reason"].strip(" #:-–—") if given else ""
            if not given or (len(reason.split()) < 2 and token.start[0] - 1 not in own_line):
                yield (
                    f"{source.path}:{token.start[0]}: {token.string}: names the rule's code and, behind it or in "
                    "the comment above, the reason: the next reader must be able to tell when it can go"
                )


def skips(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Attribute) or node.attr not in ("skip", "skipif", "importorskip"):
                continue
            if "pytest" in ast.unparse(node.value):
                yield (
                    f"{source.at(node)}: {ast.unparse(node)}: a skipped test proves nothing and nobody notices; "
                    "what a machine may lack is named in tests/support/needs.py"
                )


@pytest.mark.parametrize(
    "line",
    [
        f"index-url = https://{REGISTRIES[0]}/simple",
        f"see files.{REGISTRIES[1]}",
        "open('/" + "work/main/README')",
        "cd /" + "root/project",
        '"resolved"' + ': "https://example.invalid/a.tgz"',
    ],
)
def test_leaked_place_is_refused(line: str) -> None:
    assert list(leaked_places([sample("docs/a.txt", line)]))


def test_other_addresses_and_paths_are_fine() -> None:
    report(leaked_places([sample("docs/a.txt", 'http://localhost:3000/home/ /var/lib /workshop "resolved": true')]))


def test_reference_into_nowhere_is_refused() -> None:
    pages = frozenset({"README.md", "docs/operating.md"})
    for line in ("see nowhere.md", "told in docs/gone.md", "at most once (" + "H7)", "durable (" + "H5, H12)"):
        assert len(list(dead_references([sample("gateway/a.py", line)], pages))) == 1
    for line in (
        "see README.md",
        "docs/operating.md says",
        "HTTP (RFC 9110)",
        "(H)",
        "glob **/*.md",
        'tmp / "new.md"',
    ):
        report(dead_references([sample("gateway/a.py", line)], pages))
    report(dead_references([sample("docs/a.txt", "see operating.md")], pages))


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # type" + ": ignore",
        "x = 1  # type" + ": ignore[attr-defined]",
        "x = 1  # noqa",
        "x = 1  # noqa" + ": S101",
        "x = 1  # noqa" + ": S101, BLE001",
        "x = 1  # noqa" + ": S101 - needed",
    ],
)
def test_excuse_without_code_or_reason_is_refused(line: str) -> None:
    assert len(list(bare_excuses([sample("gateway/a.py", line)]))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # type" + ": ignore[attr-defined]  # the handle has no public type",
        "x = 1  # noqa" + ": S101 - proven by the caller",
        "# A foreign client raises whatever it likes.\nx = 1  # noqa" + ": BLE001",
    ],
)
def test_excuse_with_code_and_reason_is_fine(text: str) -> None:
    report(bare_excuses([sample("gateway/a.py", text)]))


def test_skip_is_refused() -> None:
    for line in (
        "@pytest.mark.skipif(True)\ndef test() -> None: ...",
        'pytest.skip("no")',
        'pytest.importorskip("x")',
    ):
        assert len(list(skips([sample("tests/a.py", line)]))) == 1
    report(skips([sample("tests/a.py", "parser.skip(3)")]))


def test_committed_text_leaks_no_place() -> None:
    report(leaked_places(committed()))


def test_committed_text_refers_to_what_is_here() -> None:
    texts = committed()
    pages = frozenset(source.path for source in texts if source.path.endswith(".md"))
    published = ("codegen/spec/", "requirements/", "tests/judges/package-lock.json")
    report(dead_references((s for s in texts if not s.path.startswith((*published, "tests/rules/"))), pages))


def test_every_excuse_has_a_code_and_a_reason() -> None:
    report(bare_excuses(python("gateway", "codegen", "tests", "bench")))


def test_no_test_is_skipped() -> None:
    report(skips(python("tests")))


def test_contributing_names_only_what_exists() -> None:
    page = ROOT / "CONTRIBUTING.md"
    assert page.is_file(), "CONTRIBUTING.md is missing: who changes something starts there"
    report(missing_paths(page.read_text("utf-8")))


def missing_paths(text: str) -> Iterator[str]:
    """Paths in backticks: what has a slash or a file's ending, less what is made at run time or is a pattern."""
    for quoted in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        path = quoted.split("::")[0]
        if not re.fullmatch(r"\.?[\w.-]+(?:/[\w.-]*)*", path):
            continue
        if "/" not in path and not re.search(r"\.(?:py|md|toml|txt|in|yaml|json)$", path):
            continue
        if not path.startswith((".venv", "var/")) and not (ROOT / path).exists():
            yield f"CONTRIBUTING.md: `{path}` does not exist: a map with wrong names is worse than none"


def test_path_that_does_not_exist_is_refused() -> None:
    assert len(list(missing_paths("Read `gateway/nowhere.py` and `gone.md`."))) == 2
    report(missing_paths("Read `gateway/clock.py`, run `make check`, see `.venv/bin/python` and `gateway/core/`."))
