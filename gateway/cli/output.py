"""How a command answers: one JSON value for programs, or tables and sentences for people."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
import msgspec

from gateway.cli.program import asked
from gateway.clock import rfc3339

_UNBOUNDED: Final = 100_000
"""Columns. What is read by a program or a pager is not cut off at a terminal's edge."""


def wants_json() -> bool:
    return bool(asked(click.get_current_context(), "json"))


def answer(value: Any, said: str) -> None:
    """`value` as JSON where that was asked for, else `said`."""
    click.echo(msgspec.json.encode(value) if wants_json() else said)


def answer_rows(values: Sequence[Any], columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """`values` as one JSON array where that was asked for, else a table of `rows`."""
    if wants_json():
        click.echo(msgspec.json.encode(values))
    else:
        print_table(columns, rows)


def print_array(values: Iterable[Any]) -> None:
    """One JSON array, a value a line, written as they come: there may be millions."""
    before = b"["
    for value in values:
        click.echo(before + msgspec.json.encode(value), nl=False)
        before = b",\n"
    click.echo(b"]" if before == b",\n" else b"[]")


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """A table; None is shown as a dash. With colours and lines on a terminal only."""
    from rich import box  # loads slowly, and only people need it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    style = box.SIMPLE_HEAD if terminal else None
    table = Table(*columns, box=style, pad_edge=terminal, header_style="bold", show_header=any(columns))
    for row in rows:
        table.add_row(*(Text(cell(value), overflow="fold", no_wrap=not terminal) for value in row))
    if terminal:
        Console(highlight=False).print(table)
        return
    console = Console(width=_UNBOUNDED, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def cell(value: object) -> str:
    """A value on one line, with nothing in it that a terminal would act on."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(value))


def moment(wall_ms: int | None) -> str | None:
    """RFC 3339, or None where there is none."""
    return None if wall_ms is None else rfc3339(wall_ms)
