"""The OpenAPI document as OfferGrid publishes it, taken from the page by a few lines of our own.

Not by `codegen/`, whose reading of the page is among the things that are judged here.
"""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "codegen/spec/place-a-new-order.md"
# The same with what the guides add, the shapes of answers above all: made by codegen/.
WITH_ANSWERS: Final = ROOT / "generated/openapi.json"


def published(folder: Path) -> Path:
    """Writes the document, untouched, into `folder`; its path. YAML."""
    block = re.search(r"^(`{3,})yaml[^\n]*\n(.*?)^\1", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block, f"{PAGE} holds no fenced YAML"
    path = folder / "offergrid.yaml"
    path.write_text(block[2], "utf-8")
    return path
