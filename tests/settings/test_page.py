"""`docs/settings.md` is made from the settings themselves."""

from collections.abc import Iterator

from gateway.settings import EVERY_SETTING
from gateway.settings.table import plain
from tests.support.needs import ROOT

HEAD = """\
# Settings

Read from `--config FILE`, else `$ORDERGATE_CONFIG`, else `config/ordergate.yaml`, else the defaults. An environment
variable `ORDERGATE_<SECTION>__<FIELD>` wins over the file (`ORDERGATE_STORAGE__URL`); a secret can be read from a file
by `…_FILE`. Every fault is told at once, as `FILE:LINE:COL: section.field: what is wrong`, with exit status 3.
Relative paths are relative to the working directory. What is marked `~` is read anew at SIGHUP and when the
file has changed, and acts at once; everything else acts at the next start. A bad file changes nothing.

| setting | default | unit | why |
| --- | --- | --- | --- |
"""


def rows() -> Iterator[str]:
    for info in EVERY_SETTING:
        star = " ~" if info.reload else ""
        yield f"| `{info.name}`{star} | `{plain(info.default)}` | {info.unit} | {info.reason} |\n"


def page() -> str:
    return HEAD + "".join(rows())


def test_the_page_says_what_the_settings_say() -> None:
    written = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert written == page(), "make it anew: .venv/bin/python -m tests.settings.test_page > docs/settings.md"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201  # this is the command that the message above names
