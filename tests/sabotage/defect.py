"""A deliberate defect, as data: what is changed where, and which test must see it."""

from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/sabotage.md"
_SHOWN_CHARACTERS: Final = 160


class Stale(Exception):
    """A defect's text does not stand in its file exactly once any more. The message names it."""


class Defect(msgspec.Struct, frozen=True, kw_only=True):
    """`name`: what is broken, in plain words. `file`: from the project's root. `text` stands in it exactly once and is
    replaced by `by`. `test` is the pytest node id of the test that must fail then.
    """

    name: str
    file: str
    text: str
    by: str
    test: str

    def applied(self, source: str) -> str:
        """The file with the defect in it. Stale where it is not clear what to replace."""
        found = source.count(self.text)
        if found != 1:
            raise Stale(
                f"sabotage: {self.file} holds the text of the defect '{self.name}' {found} times instead of once: "
                f"{self.text.strip()[:_SHOWN_CHARACTERS]!r}. Give it the text as it stands now, in tests/sabotage/"
            )
        return source.replace(self.text, self.by)


def spoiled(defect: Defect, root: Path = ROOT) -> str:
    """As `Defect.applied`, of the file below `root`."""
    path = root / defect.file
    if not path.is_file():
        raise Stale(f"sabotage: {defect.file}, the file of the defect '{defect.name}', is not there any more")
    return defect.applied(path.read_text("utf-8"))
