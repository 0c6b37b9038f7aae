"""The one error of this package."""

from __future__ import annotations


class CodegenError(Exception):
    """What is wrong with an input, said in one line: `SOURCE:LINE: what is wrong`.

    `line` counts from 1 in the source as its author sees it (the page, not the block inside it).
    """

    def __init__(self, source: str, line: int, message: str) -> None:
        flat = " ".join(message.split())
        self.text = f"{source}:{line}: {flat if len(flat) <= 300 else flat[:297] + '...'}"
        super().__init__(self.text)
