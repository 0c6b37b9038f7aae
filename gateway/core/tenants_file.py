"""A file of teams and tenants: from its bytes to what is wanted, and every fault at once with line and column.

    teams:
      - name: sales
    tenants:
      - name: shop
        team: sales
        state: active
        require_idempotency_key: true
        guaranteed_per_minute: 20
        implicit_window_s: 300
        metadata:
          defaults: {channel: web}
          enforced: {source: shop}

What is left out is not said; nor is a list or a mapping that has nothing behind its colon. A number that is null is as
the settings say. Metadata values become JSON texts, a number as it is spelled.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.core.tenancy import NAME, NAME_FORM, metadata_fault, metadata_size_fault
from gateway.core.tenants_plan import TenantsFile, WantedTeam, WantedTenant
from gateway.core.tenants_scalars import (
    NoJson,
    is_no_text,
    json_of,
    kind_of,
    quoted,
    says_nothing,
    state,
    truth,
    whole,
)
from gateway.settings.document import Fault, Limits, readable
from gateway.settings.tree import Branch, Leaf, Node, Table, place, read_tree

LIMITS: Final = Limits(bytes=16 << 20, events=400_000, depth=24, what="teams and tenants")
"""Some 13,000 tenants with all that can be said of each."""

MAX_FAULTS: Final = 1_000
"""So many are told. Whoever made more of them made one mistake many times."""

_MAX_SUGGESTIONS: Final = 50


class ReadFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says, as far as it can be read; and what is wrong with it, in the order in which it stands."""

    wanted: TenantsFile
    faults: tuple[Fault, ...]


def read_tenants_file(content: bytes, source: str) -> ReadFile:
    """Never raises for what is in the file. `source` is what its places are named after."""
    root, faults = read_tree(content, source, LIMITS)
    if faults:
        return ReadFile(wanted=TenantsFile(), faults=_first(faults))
    reading = _Reading(source)
    wanted = TenantsFile() if says_nothing(root) else reading.file(root)
    return ReadFile(wanted=wanted, faults=_first(sorted(reading.faults, key=lambda fault: fault.place)))


def _first(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    every = tuple(faults)
    if len(every) <= MAX_FAULTS:
        return every
    last = every[MAX_FAULTS - 1]
    more = Fault(place=last.place, name="", what=f"and {len(every) - MAX_FAULTS} more after this")
    return (*every[:MAX_FAULTS], more)


class _Reading:
    def __init__(self, source: str) -> None:
        self.faults: list[Fault] = []
        self._source = source

    def file(self, root: Node | None) -> TenantsFile:
        found: dict[str, Any] = {}
        if not isinstance(root, Table):
            self._wrong(root, "", "must hold `teams:` and `tenants:`, lists of them")
            return TenantsFile()
        for name, node in self._members(root, "", ("teams", "tenants")):
            read: Callable[[Table], Any] = self._team if name == "teams" else self._tenant
            found[name] = None if says_nothing(node) else tuple(self._each(node, name, read))
        return TenantsFile(**found)

    def _each(self, node: Node, kind: str, read: Callable[[Table], Any]) -> Iterator[Any]:
        first: dict[str, Leaf] = {}
        for item in node.items if isinstance(node, Branch) else ():
            if not isinstance(item, Table):
                self._wrong(item, kind, f"must be a mapping with a name, not {kind_of(item)}")
                continue
            name = next(
                (value for key, value in item.members if isinstance(key, Leaf) and key.text == "name"), None
            )
            if name is None:
                self._wrong(item, kind, "this one has no name")
            elif isinstance(name, Leaf) and (before := first.setdefault(name.text, name)) is not name:
                what = f"is there twice, first in line {before.line}"
                self._wrong(name, f"{kind[:-1]} {readable(name.text)}", what)
                continue
            yield from read(item)
        if not isinstance(node, Branch):
            self._wrong(node, kind, f"must be a list, not {kind_of(node)}")

    def _team(self, table: Table) -> Iterator[WantedTeam]:
        found: dict[str, Any] = {}
        for _, node in self._members(table, "teams", ("name",)):
            found = self._name(node, "teams.name")
        if found:
            yield WantedTeam(**found)

    def _tenant(self, table: Table) -> Iterator[WantedTenant]:
        said = dict(self._members(table, "tenants", _TENANT))
        name = said.get("name")
        of = f"tenant {readable(name.text)}" if isinstance(name, Leaf) and name.text else "tenants"
        found: dict[str, Any] = {}
        if name is not None:
            found["name"] = self._name(name, "tenants.name").get("name")
        if (team := said.get("team")) is not None:
            named = self._name(team, f"{of}: team")
            found |= {"team": named.get("name"), "place": named.get("place")}
        elif name is not None:
            self._wrong(name, of, "has no team")
        for member, read in _READ.items():
            if (node := said.get(member)) is not None:
                try:
                    found[member] = read(node, member)
                except ValueError as fault:
                    self._wrong(node, f"{of}: {member}", str(fault))
        if (metadata := said.get("metadata")) is not None and not says_nothing(metadata):
            found |= self._metadata(metadata, of)
        if all(found.get(member) is not None for member in ("name", "team", "place")):
            yield WantedTenant(**found)

    def _name(self, node: Node, of: str) -> dict[str, Any]:
        """The name and its place; nothing where it is none."""
        if not isinstance(node, Leaf) or says_nothing(node):
            self._wrong(node, of, f"must be a name, not {kind_of(node)}")
        elif is_no_text(node):
            self._wrong(node, of, f"must be a name, not {kind_of(node)} (put it in quotes)")
        elif not NAME.fullmatch(node.text):
            self._wrong(node, of, f"{readable(node.text)!r} is no name: {NAME_FORM}")
        else:
            return {"name": node.text, "place": str(place(node, self._source))}
        return {}

    def _metadata(self, node: Node, of: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        if not isinstance(node, Table):
            self._wrong(node, f"{of}: metadata", f"must hold `defaults:` and `enforced:`, not {kind_of(node)}")
            return found
        for name, members in self._members(node, f"{of}: metadata", ("defaults", "enforced")):
            if says_nothing(members):
                continue
            where = f"{of}: metadata.{name}"
            if not isinstance(members, Table):
                self._wrong(members, where, f"must be a mapping, not {kind_of(members)}")
                continue
            found[name] = {key.text: self._value(value, key, where) for key, value in self._keys(members, where)}
            if what := metadata_size_fault(found[name]):
                self._wrong(members, where, what)
        return found

    def _value(self, node: Node, key: Leaf, of: str) -> str:
        """A metadata member's value as a JSON text."""
        text = "null"
        try:
            text = self._json(node, of)
        except NoJson as fault:
            self._wrong(fault.node, f"{of}.{readable(key.text)}", fault.what)
        if what := metadata_fault(key.text, text):
            self._wrong(key, of, readable(key.text) + what.removeprefix(key.text))
        return text

    def _json(self, node: Node, of: str) -> str:
        match node:
            case Branch():
                return f"[{','.join(self._json(item, of) for item in node.items)}]"
            case Table():
                pairs = (f"{quoted(key)}:{self._json(value, of)}" for key, value in self._keys(node, of))
                return f"{{{','.join(pairs)}}}"
        return json_of(node)

    def _members(self, table: Table, of: str, known: tuple[str, ...]) -> Iterator[tuple[str, Node]]:
        """The members that may stand here; each other one is a fault."""
        for key, value in self._keys(table, of):
            if key.text in known:
                yield key.text, value
            else:
                near = (
                    ()
                    if len(self.faults) > _MAX_SUGGESTIONS
                    else difflib.get_close_matches(key.text[:64], known, 1)
                )
                hint = f"; did you mean {near[0]}?" if near else ""
                self._wrong(key, f"{of}.{readable(key.text)}".lstrip("."), f"there is no such member{hint}")

    def _keys(self, table: Table, of: str) -> Iterator[tuple[Leaf, Node]]:
        """Members with texts as names, each once."""
        first: dict[str, Leaf] = {}
        for key, value in table.members:
            if not isinstance(key, Leaf):
                self._wrong(key, of, "a name must be plain text")
            elif (before := first.setdefault(key.text, key)) is not key:
                what = f"is there twice, first in line {before.line}"
                self._wrong(key, f"{of}.{readable(key.text)}".lstrip("."), what)
            else:
                yield key, value

    def _wrong(self, node: Node | None, name: str, what: str) -> None:
        self.faults.append(Fault(place=place(node or Leaf("", True, 1, 1), self._source), name=name, what=what))


_READ: Final[Mapping[str, Callable[[Node, str], Any]]] = {
    "state": state,
    "require_idempotency_key": truth,
    "guaranteed_per_minute": whole,
    "implicit_window_s": whole,
}
_TENANT: Final = ("name", "team", *_READ, "metadata")
