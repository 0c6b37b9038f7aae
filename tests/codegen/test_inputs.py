"""Pages, files and addresses: what is read, and the one line that says where a bad one is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from .conftest import PAGE, ROOT, Codegen, Ran

FENCE = "````yaml https://api.offergrid.io/openapi-reseller post /reseller/orders\n"


def block_of(page: str) -> str:
    return page.split(FENCE)[1].split("\n````")[0] + "\n"


def line_of(text: str, needle: str) -> int:
    return text[: text.index(needle)].count("\n") + 1


def models_of(folder: Path) -> str:
    """models.py without the line that names the source's digest."""
    lines = (folder / "models.py").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# Source: "))


# Name of the case: what is replaced in the page, by what, what stands on the line to be named, and what is said.
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "no document": ("openapi: 3.0.0", "open: 3.0.0", "> ## Documentation", "no OpenAPI document here"),
    "bad yaml": ("title: OfferGrid API", "title: [OfferGrid", "  description: >-", "not YAML"),
    "member twice": (
        "        '404':",
        "        '201':",
        "        '201':\n          description: One",
        "second time",
    ),
    "version": ("openapi: 3.0.0", "openapi: 3.7.0", "openapi: 3.7.0", "unsupported version (openapi 3.7.0)"),
    "swagger": ("openapi: 3.0.0", "swagger: '2.0'", "swagger", "unsupported version (swagger 2.0)"),
    "version is a number": ("version: '1.0'", "version: 1.0", "version: 1.0", "not of type 'string'"),
    "no answers": ("      responses:", "      answers:", "    post:", "'responses' is a required property"),
    "no such type": ("type: array", "type: list", "type: list", "'list' is not one of"),
    "reference to nothing": ("schemas/OrderItemDto'", "schemas/Gone'", "schemas/Gone'", "points to nothing"),
    "reference elsewhere": (
        "#/components/schemas/OrderItemDto",
        "file:///etc/passwd",
        "file:",
        "leaves the document",
    ),
}


def assert_one_line(ran: Ran, start: str, what: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith(start), ran.err
    assert what in ran.err


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_page_is_one_line_with_the_line_of_the_page(
    case: str, codegen: Codegen, page: str, tmp_path: Path
) -> None:
    old, new, where, what = BROKEN[case]
    assert old in page, "the case does not spoil the page any more"
    text = page.replace(old, new)
    source = tmp_path / "page.md"
    source.write_text(text, encoding="utf-8")
    assert_one_line(codegen(source, "--out", tmp_path / "out"), f"{source}:{line_of(text, where)}: ", what)
    assert not (tmp_path / "out").exists()


def test_a_page_with_two_documents_names_the_second(codegen: Codegen, page: str, tmp_path: Path) -> None:
    second = FENCE.replace(" post ", " get ")
    text = f"{page}\n\n## Again\n\n{second}{block_of(page)}````\n"
    source = tmp_path / "page.md"
    source.write_text(text, encoding="utf-8")
    what = f"a second OpenAPI document; the first begins on line {line_of(text, FENCE)}"
    assert_one_line(codegen(source, "--out", tmp_path / "out"), f"{source}:{line_of(text, second)}: ", what)


def test_a_page_whose_block_is_never_closed_says_where_it_begins(
    codegen: Codegen, page: str, tmp_path: Path
) -> None:
    source = tmp_path / "page.md"
    source.write_text(page.rstrip().removesuffix("````"), encoding="utf-8")
    start = f"{source}:{line_of(page, FENCE)}: "
    assert_one_line(codegen(source, "--out", tmp_path / "out"), start, "never closed")


def test_other_blocks_on_the_page_are_no_documents(codegen: Codegen, page: str, tmp_path: Path) -> None:
    source, out = tmp_path / "page.md", tmp_path / "out"
    more = '\n```json\n{"orderId": "ord-1"}\n```\n\n~~~text\nopenapi: 3.0.0\n~~~\n'
    source.write_text(page + more, encoding="utf-8")
    assert codegen(source, "--out", out) == (0, "", "")
    assert models_of(out) == models_of(ROOT / "generated")


def test_a_page_that_is_not_utf8_says_on_which_line(codegen: Codegen, tmp_path: Path) -> None:
    source = tmp_path / "page.md"
    source.write_bytes(b"one\ntwo \xff\n")
    ran = codegen(source, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (2, f"{source}:2: not UTF-8\n")


def test_broken_json_says_on_which_line(codegen: Codegen, tmp_path: Path) -> None:
    source = tmp_path / "spec.json"
    source.write_text('{\n\t"openapi": "3.0.0",\n\t"info": oops\n}\n')
    ran = codegen(source, "--out", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.startswith(f"{source}:3: not JSON: ")


def test_aliases_that_multiply_themselves_are_refused(codegen: Codegen, tmp_path: Path) -> None:
    source = tmp_path / "spec.yaml"
    lines = ["openapi: 3.0.0", "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    source.write_text("\n".join(lines))
    ran = codegen(source, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "more than 1000000 values" in ran.err


@pytest.mark.parametrize("name", ["spec.yaml", "spec.json", "spec"])
def test_yaml_and_json_files_make_the_same_models(name: str, codegen: Codegen, page: str, tmp_path: Path) -> None:
    source, out = tmp_path / name, tmp_path / "out"
    block = block_of(page)
    text = json.dumps(yaml.safe_load(block), indent="\t") if name.endswith("json") else block
    source.write_text(text, encoding="utf-8")
    assert codegen(source, "--out", out) == (0, "", "")
    assert models_of(out) == models_of(ROOT / "generated")


class Page(BaseHTTPRequestHandler):
    """Serves the page at /page.md, and answers that must not be taken for one."""

    def do_GET(self) -> None:
        raw = PAGE.read_bytes()
        if self.path == "/page.md":
            self.send_response(200)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        elif self.path == "/short.md":
            self.send_response(200)
            self.send_header("content-length", str(len(raw) + 1))
            self.end_headers()
            self.wfile.write(raw)
        elif self.path == "/huge.md":
            self.send_response(200)
            self.end_headers()
            # Whether all of it fits into the buffers before the other side hangs up is the kernel's business.
            try:
                self.wfile.write(b"x" * (17 * 1024 * 1024))
            except OSError:
                self.close_connection = True
        else:
            self.send_response(302)
            self.send_header("location", "/page.md")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_makes_the_same_files_as_the_page(codegen: Codegen, address: str, tmp_path: Path) -> None:
    assert codegen(f"{address}/page.md", "--out", tmp_path / "out") == (0, "", "")
    assert codegen("--check", "--out", tmp_path / "out") == (0, "", "")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/moved.md", "answered 302 Found; redirects are not followed"),
        ("/short.md", "ended early"),
        ("/huge.md", "larger than 16777216 bytes"),
    ],
)
def test_an_address_that_gives_no_whole_page_is_one_line(
    path: str, what: str, codegen: Codegen, address: str, tmp_path: Path
) -> None:
    ran = codegen(address + path, "--out", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.startswith(f"{address}{path}:1: ")
    assert what in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "source", ["http://offergrid.example/page.md", "https://user:pw@offergrid.example/", "none.md"]
)
def test_a_source_that_must_not_or_cannot_be_read_is_one_line(
    source: str, codegen: Codegen, tmp_path: Path
) -> None:
    ran = codegen(source, "--out", tmp_path / "out")
    assert ran.code == 2
    assert ran.err.startswith(f"{source}:1: ")
    assert ran.err.count("\n") == 1
