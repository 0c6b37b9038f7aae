"""`ordergate config`: what the settings are, and whether they can be."""

import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import answer, answer_rows
from gateway.cli.program import Group, config_file, read_settings
from gateway.settings import Settings, describe_settings
from gateway.settings.model import section_types
from gateway.settings.reader import DEFAULT_FILE


@click.group(cls=Group)
def config() -> None:
    """The settings."""


@config.command("check", example="ordergate config check --config new.yaml")
def check() -> None:
    """Check file and environment, and tell every fault with its line."""
    read_settings()
    file = file_read()
    answer(
        {"file": file},
        f"the settings are good; {f'{file} was read' if file else 'there is no file, so defaults apply'}",
    )


@config.command("show", example="ordergate config show")
def show() -> None:
    """Show every setting and where it was read; secrets are hidden."""
    settings = read_settings()
    values = _values(settings)
    shown = describe_settings(settings)
    views = [{"setting": one.name, "value": values[one.name], "source": one.source} for one in shown]
    answer_rows(views, ("setting", "value", "source"), ((one.name, one.value, one.source) for one in shown))


def file_read() -> str | None:
    """The settings file that was read, if any."""
    named = config_file() or os.environ.get("ORDERGATE_CONFIG")
    if named:
        return named
    return DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None


def _values(settings: Settings) -> dict[str, Any]:
    """By name, secrets hidden; numbers and truth values as such."""
    return {
        f"{section}.{field}": value
        for section, _ in section_types()
        for field, value in getattr(settings, section).shown()
    }
