"""The settings as a table: one row a setting, read from the structs, and what the commands show of them.

`config/ordergate.yaml` and the table in `docs/settings.md` are checked against `EVERY_SETTING`.
"""

from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import structs

from gateway.settings.model import Settings, about, section_types


class SettingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of settings, read from the structs above. `type` is the annotated type."""

    section: str
    field: str
    type: Any
    default: Any
    reason: str
    unit: str
    expect: str
    reload: bool
    secret: bool

    @property
    def name(self) -> str:
        return f"{self.section}.{self.field}"

    @property
    def textual(self) -> bool:
        """Whether its value is text: then a number or a truth value in a file needs quotes."""
        return isinstance(self.default, str | None)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"ORDERGATE_{self.section}__{self.field}".upper()


class ShownSetting(NamedTuple):
    """One line of `config show`."""

    name: str
    value: str
    default: bool
    source: str


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two settings, by name, in the table's order."""

    reloadable: tuple[str, ...]
    needs_restart: tuple[str, ...]


def describe_settings(settings: Settings) -> list[ShownSetting]:
    """Every setting as text with where it came from (`default`, `FILE:LINE:COL` or `$VARIABLE`); secrets hidden."""
    sources = dict(settings.sources)
    shown = {
        f"{section}.{field}": value
        for section, _ in section_types()
        for field, value in getattr(settings, section).shown()
    }
    return [
        ShownSetting(
            info.name,
            plain(shown[info.name]),
            settings.value(info.name) == info.default,
            sources.get(info.name, "default"),
        )
        for info in EVERY_SETTING
    ]


def changes(old: Settings, new: Settings) -> Changes:
    """What a reload from `old` to `new` would change, and what of it only a restart can."""
    differing = [info for info in EVERY_SETTING if old.value(info.name) != new.value(info.name)]
    return Changes(
        reloadable=tuple(info.name for info in differing if info.reload),
        needs_restart=tuple(info.name for info in differing if not info.reload),
    )


def reloaded(old: Settings, new: Settings) -> Settings:
    """`old` with what a reload to `new` can change."""
    sections: dict[str, Any] = {}
    for section, _ in section_types():
        names = [info.field for info in EVERY_SETTING if info.section == section and info.reload]
        given = getattr(new, section)
        sections[section] = structs.replace(getattr(old, section), **{name: getattr(given, name) for name in names})
    return structs.replace(old, **sections, sources=new.sources)


def plain(value: object) -> str:
    """A value as `config/ordergate.yaml` would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    return "none" if value is None else str(value)


def _read_table() -> tuple[SettingInfo, ...]:
    return tuple(
        SettingInfo(
            section=section,
            field=field.name,
            type=field.type,
            default=field.default,
            **{**about(field.type), "expect": _expectation(field.type)},
        )
        for section, fields in section_types()
        for field in msgspec.structs.fields(fields)
    )


def _expectation(annotated: Any) -> str:
    """In words: what a value of this setting has to be."""
    in_words: str = about(annotated)["expect"]
    if in_words:
        return in_words
    choices = get_args(annotated)[0]
    if get_origin(choices) is Literal:
        return "one of " + ", ".join(get_args(choices))
    kind: Any = msgspec.inspect.type_info(annotated)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        low = f"from {kind.ge}" if kind.ge is not None else f"above {kind.gt}"
        return f"{noun} {low} to {kind.le}"
    return "text, not empty"


EVERY_SETTING: Final[tuple[SettingInfo, ...]] = _read_table()
