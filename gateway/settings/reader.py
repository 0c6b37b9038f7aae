"""Settings file and environment joined into one `Settings`; every fault of both is reported at once.

Order: defaults, then the file (`--config`, else `$ORDERGATE_CONFIG`, else `config/ordergate.yaml` if it is there),
then environment variables `ORDERGATE_<SECTION>__<FIELD>`. A secret setting may be given as a file: `token_file` in
YAML, `…_FILE` in the environment. Reads files; writes nothing; asks no clock.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.errors import BadSettings
from gateway.settings.document import MAX_FILE_BYTES, Document, Entry, Fault, Place, read_document, readable
from gateway.settings.model import Settings, section_types
from gateway.settings.rules import RULES
from gateway.settings.table import EVERY_SETTING, SettingInfo

DEFAULT_FILE: Final = "config/ordergate.yaml"
# Variables with our prefix that are not settings.
OTHER_VARIABLES: Final = frozenset({"ORDERGATE_CONFIG"})
_PREFIX: Final = "ORDERGATE_"
_MAX_SECRET_BYTES: Final = 1 << 16
_MAX_SUGGESTIONS: Final = 50
_NUMERIC: Final = re.compile(r"[-+]?[0-9][-+0-9._eE]{0,20}")
# Kubernetes sets these in every container for a service that is called ordergate or ordergate-something.
_SERVICE_LINK: Final = re.compile(
    r"ORDERGATE_(\w+?_)??(?P<kind>SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class _Reading:
    """What has been found so far: values by setting, where each was read, and what is wrong."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.places: dict[str, Place] = {}
        self.faults: list[Fault] = []
        self.faulty: set[str] = set()
        self.unread = False  # the file, or part of it: what settings ask of each other is then not known

    def wrong(self, place: Place, name: str, what: str) -> None:
        self.faults.append(Fault(place=place, name=name, what=what))
        self.faulty.add(name)

    def take(self, info: SettingInfo, raw: Any, place: Place, *, lax: bool = False) -> None:
        """Check one value against its type and range. `lax`: it is text that stands for the type."""
        self.places[info.name] = place
        try:
            self.values[info.name] = msgspec.convert(raw, info.type, strict=not lax)
        except (msgspec.ValidationError, OverflowError):
            what = f"must be {info.expect}, not {_kind(raw, info)}"
            self.wrong(place, info.name, what)

    def take_file(self, info: SettingInfo, path: object, place: Place) -> None:
        """The value is what the file holds, without the newline at its end."""
        self.places[info.name] = place
        if not isinstance(path, str) or not path:
            self.wrong(place, info.name, "must be the path of a file")
            return
        try:
            content = _read(path, _MAX_SECRET_BYTES)
            text = content.decode("utf-8")
        except (OSError, ValueError) as fault:
            self.wrong(place, info.name, f"the file {readable(path)} {_why(fault)}")
            return
        if len(content) > _MAX_SECRET_BYTES:
            self.wrong(place, info.name, f"the file {readable(path)} is larger than {_MAX_SECRET_BYTES} bytes")
            return
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            self.wrong(place, info.name, f"the file {readable(path)} is empty")
            return
        self.take(info, text, place)


def load_settings(config: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings of this process. `config` is `--config`'s value, `environ` the environment.

    Raises `BadSettings` with one line a fault, `FILE:LINE:COL: section.field: what is wrong`, in the order in which
    they stand: the file's, then the environment's. No line repeats a secret.
    """
    reading = _Reading()
    document = _open(config, environ, reading)
    known = {info.name: info for info in EVERY_SETTING}
    _take_document(document, known, reading)
    _take_environment(environ, known, reading)
    settings = _build(reading)
    _check_rules(settings, reading)
    if reading.faults:
        raise BadSettings(*(str(fault) for fault in sorted(reading.faults, key=_order)))
    return settings


def _order(fault: Fault) -> tuple[bool, Place]:
    return fault.place.source.startswith("$"), fault.place


def _open(config: str | None, environ: Mapping[str, str], reading: _Reading) -> Document:
    path = config or environ.get("ORDERGATE_CONFIG") or None
    try:
        content = _read(path or DEFAULT_FILE, MAX_FILE_BYTES)
    except FileNotFoundError as fault:
        if path is None:
            return Document()
        reading.wrong(Place(source=readable(path)), "", _why(fault))
        return Document()
    except (OSError, ValueError) as fault:
        reading.wrong(Place(source=readable(path or DEFAULT_FILE)), "", _why(fault))
        return Document()
    return read_document(content, path or DEFAULT_FILE)


def _read(path: str, limit: int) -> bytes:
    """At most one byte more than `limit`, so that the caller sees that there was more."""
    with Path(path).open("rb") as file:
        return file.read(limit + 1)


def _why(fault: Exception) -> str:
    match fault:
        case FileNotFoundError():
            return "is not there"
        case UnicodeDecodeError():
            return "is not UTF-8"
        case OSError():
            return f"cannot be read: {fault.strerror}"
    return "cannot be read: its name is not a path"


def _take_document(document: Document, known: Mapping[str, SettingInfo], reading: _Reading) -> None:
    reading.faults.extend(document.faults)
    reading.unread = any(not fault.name for fault in reading.faults)
    sections = [name for name, _ in section_types()]
    for name, place in document.sections:
        if name not in sections:
            reading.wrong(place, name, "there is no such section" + _nearest(name, sections, reading))
    for entry in document.entries:
        if entry.section in sections:
            _take_entry(entry, known, reading)


def _take_entry(entry: Entry, known: Mapping[str, SettingInfo], reading: _Reading) -> None:
    name = f"{entry.section}.{entry.field}"
    by_file = known.get(name.removesuffix("_file"))
    if info := known.get(name):
        take: Callable[[SettingInfo, Any, Place], None] = reading.take
    elif by_file and by_file.secret and name.endswith("_file"):
        info, take = by_file, reading.take_file
    else:
        fields = [info.field for info in known.values() if info.section == entry.section]
        reading.wrong(entry.key, name, "there is no such setting" + _nearest(entry.field, fields, reading))
        return
    if info.name in reading.places:
        what = f"is given twice, as {info.field} and as {info.field}_file; first in line"
        reading.wrong(entry.key, info.name, f"{what} {reading.places[info.name].line}")
        return
    take(info, entry.value, entry.place)


def _take_environment(environ: Mapping[str, str], known: Mapping[str, SettingInfo], reading: _Reading) -> None:
    by_variable = {info.variable: info for info in known.values()}
    by_file = {f"{info.variable}_FILE": info for info in known.values() if info.secret}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        text, place = environ[variable], Place(source=f"${readable(variable)}")
        if info := by_variable.get(variable):
            if f"{variable}_FILE" in environ and info.secret:
                reading.wrong(place, info.name, f"is given twice: ${variable} and ${variable}_FILE")
            elif not text:
                reading.wrong(place, info.name, "is empty: unset the variable to use the default")
            else:
                reading.take(info, text, place, lax=not info.textual)
        elif info := by_file.get(variable):
            if info.variable not in environ:
                reading.take_file(info, text, place)
        elif variable not in OTHER_VARIABLES and not _is_service_link(variable, text):
            near = _nearest(variable, [*by_variable, *by_file], reading, prefix=_PREFIX)
            reading.wrong(place, "", "there is no such setting" + near)


def _is_service_link(variable: str, text: str) -> bool:
    """Kubernetes' own, and not a setting spelt with one underscore too few."""
    link = _SERVICE_LINK.fullmatch(variable)
    if link is None:
        return False
    return link["kind"] != "PORT" or re.match(r"(tcp|udp|sctp)://", text) is not None


def _nearest(name: str, names: list[str], reading: _Reading, *, prefix: str = "") -> str:
    """`; did you mean …?` where something is near. Not for endless faults: comparing takes its time.

    `prefix` is what they all begin with: it makes nothing nearer.
    """
    if len(name) > 64 or len(reading.faults) > _MAX_SUGGESTIONS:
        return ""
    near = difflib.get_close_matches(name.removeprefix(prefix), [it.removeprefix(prefix) for it in names], n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _kind(raw: object, info: SettingInfo) -> str:
    """What was found instead, in words; a number is told, a text never (it may be a secret)."""
    match raw:
        case None:
            return "nothing (leave the line out to use the default)"
        case bool():
            return "true or false" + (" (put it in quotes)" if info.textual else "")
        case int() | float() if info.textual:
            return "a number (put it in quotes)"
        case int() | float():
            return str(raw)
        case str() if not info.textual and _NUMERIC.fullmatch(raw):
            return raw
        case str():
            return "this text" if info.textual else "text"
    return "a list" if isinstance(raw, list) else "a mapping"


def _build(reading: _Reading) -> Settings:
    """Settings of what was good; defaults elsewhere."""
    good = {name: value for name, value in reading.values.items() if name not in reading.faulty}
    if url := good.get("upstream.base_url"):
        good["upstream.base_url"] = url.rstrip("/")  # paths are put behind it
    sections: dict[str, Any] = {
        section: fields(**{info.field: good[info.name] for info in EVERY_SETTING if _in(info, section, good)})
        for section, fields in section_types()
    }
    sources = tuple((name, str(reading.places[name]).removesuffix(":1:1")) for name in good)
    return Settings(**sections, sources=sources)


def _in(info: SettingInfo, section: str, good: Mapping[str, Any]) -> bool:
    return info.section == section and info.name in good


def _check_rules(settings: Settings, reading: _Reading) -> None:
    for rule in RULES:
        names = (rule.name, *rule.others)
        if reading.unread or reading.faulty.intersection(names):
            continue
        if what := rule.wrong(settings):
            place = next(
                (reading.places[name] for name in names if name in reading.places), Place(source="defaults")
            )
            reading.wrong(place, rule.name, what)
