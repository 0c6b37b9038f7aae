"""What every command shares: its options, its example, and how each error becomes one line and an exit status."""

import os
import sys
from typing import Any, Final

import click

from gateway.errors import LedgerError, OperatorError, StorageUnreachable
from gateway.settings import Settings, load_settings

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell says of a command that Ctrl-C ended
_ASKED: Final = "ordergate."
"""Before a common option's name in click's `meta`, which a command shares with the groups above it."""


class Command(click.Command):
    """A command with an example and the common options, which may also stand before it, at any group."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.extend(_common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            formatter.write(f"{' ' * formatter.current_indent}{self.example}\n")


class Group(click.Group):
    """Commands that belong together."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())


class Program(Group):
    """The root: the one boundary at which errors become words and exit statuses."""

    group_class = Group

    def invoke(self, ctx: click.Context) -> Any:
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, a person reads it
            if asked(ctx, "traceback"):
                raise
            ctx.exit(_told(fault))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def asked(ctx: click.Context, name: str) -> Any:
    """A common option's value, wherever on the command line it stood; None where it did not."""
    return ctx.meta.get(_ASKED + name)


def read_settings() -> Settings:
    """The settings that this command was told to use. Raises BadSettings."""
    return load_settings(asked(click.get_current_context(), "config"), os.environ)


def _told(fault: Exception) -> int:
    """Says on standard error what is wrong, and returns the exit status."""
    if isinstance(fault, BrokenPipeError):
        # Whoever read the output has seen enough. What is still buffered must not fail at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(fault, OperatorError):
        click.echo(str(fault), err=True)
        return fault.exit_code
    if isinstance(fault, LedgerError):
        click.echo(f"the ledger: {fault}", err=True)
        return StorageUnreachable.exit_code
    click.echo(
        f"a defect of Ordergate: {type(fault).__name__}; the same command with --traceback says more", err=True
    )
    return FAILED


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"],
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help="Settings file; else $ORDERGATE_CONFIG, else config/ordergate.yaml.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="One JSON value on standard output, and nothing else there.",
        ),
        click.Option(["--traceback"], is_flag=True, hidden=True, expose_value=False, callback=_remember),
    ]


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value and option.name is not None:
        ctx.meta[_ASKED + option.name] = value
