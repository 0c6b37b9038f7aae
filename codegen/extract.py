"""The OpenAPI document inside a page, or a file that is nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from codegen.document import Document, load_json, load_yaml
from codegen.errors import CodegenError
from codegen.fetch import is_url

_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^\r\n]*)$")
_MEMBER = re.compile(r"""^[ \t{]*["']?(?:openapi|swagger)["']?[ \t]*:""", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A fenced block: the language its info string names, the fence's line, and what stands between the fences."""

    language: str
    line: int
    text: str


def extract(source: str, raw: bytes) -> Document:
    """The one OpenAPI document in `raw`: a page (.md), YAML or JSON. CodegenError unless there is just one."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CodegenError(source, raw.count(b"\n", 0, error.start) + 1, "not UTF-8") from error
    match _kind(source, text):
        case "json":
            return load_json(source, text)
        case "yaml":
            return load_yaml(source, text)
    documents = [b for b in _blocks(source, text) if b.language in _LANGUAGES and _MEMBER.search(b.text)]
    if not documents:
        raise CodegenError(
            source, 1, "no OpenAPI document here: no fenced yaml or json block with an `openapi` member"
        )
    if len(documents) > 1:
        first, second = documents[0].line, documents[1].line
        raise CodegenError(source, second, f"a second OpenAPI document; the first begins on line {first}")
    block = documents[0]
    load = load_json if block.language == "json" else load_yaml
    return load(source, block.text, block.line + 1)


_LANGUAGES = frozenset({"yaml", "yml", "json"})
_SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".md": "page", ".markdown": "page"}


def _kind(source: str, text: str) -> str:
    """`page`, `yaml` or `json`: by the name where it says so, else by the look of the text."""
    name = urlsplit(source).path if is_url(source) else source
    by_name = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if by_name:
        return by_name
    if text.lstrip().startswith("{"):
        return "json"
    # Inside YAML a fence can only stand indented, in a block of text.
    return "page" if re.search(r"^(?:```|~~~)", text, re.MULTILINE) else "yaml"


def _blocks(source: str, text: str) -> list[_Block]:
    blocks: list[_Block] = []
    opened: tuple[str, str, int] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        found = _FENCE.match(line)
        if opened is None:
            if found:
                info = found["info"].split()
                opened = (found["fence"], info[0].lower() if info else "", number)
                inside = []
            continue
        fence, language, began = opened
        # A fence is closed by one of its own kind, at least as long, with nothing behind it.
        if found and not found["info"].strip() and found["fence"].startswith(fence):
            blocks.append(_Block(language=language, line=began, text="\n".join(inside) + "\n"))
            opened = None
        else:
            inside.append(line)
    if opened is not None:
        raise CodegenError(source, opened[2], "the fenced block that begins here is never closed")
    return blocks
