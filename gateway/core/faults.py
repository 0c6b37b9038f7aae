"""Every fault of a body at once, each with a JSON pointer (RFC 6901).

msgspec stops at the first fault of a struct. This walks the types that the generated models declare and goes on, so
that a tenant mends a body in one round. It knows no field by name: it asks the models.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import msgspec.inspect as declared

from gateway.core.json_text import Number

MAX_FAULTS: Final = 100
"""How many are listed; a body with more is broken enough to be told so."""


_MOST_DIGITS: Final = 20
"""Beyond it no whole number is within any bounds that are set here."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (a JSON pointer; for a missing member, where it should be) and what."""

    pointer: str
    detail: str


def faults_of(value: Any, kind: declared.Type, pointer: str = "") -> Iterator[Fault]:
    """The faults of a parsed value (from `core.json_text`) against a declared type, depth first."""
    match kind:
        case declared.Metadata():  # a description around a type
            yield from faults_of(value, kind.type, pointer)
        case declared.StructType():
            yield from _struct_faults(value, kind, pointer)
        case declared.DictType():
            yield from _expect(isinstance(value, Mapping), "an object", value, pointer)
        case declared.ListType():
            yield from _expect(isinstance(value, list), "an array", value, pointer)
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from faults_of(item, kind.item_type, f"{pointer}/{index}")
        case declared.StrType():
            yield from _string_faults(value, kind, pointer)
        case declared.BoolType():
            yield from _expect(isinstance(value, bool), "true or false", value, pointer)
        case declared.IntType():
            yield from _integer_faults(value, kind, pointer)
        case declared.FloatType():
            yield from _expect(isinstance(value, Number), "a number", value, pointer)
        case declared.UnionType():
            yield from _union_faults(value, kind, pointer)
        case declared.LiteralType():
            if not (isinstance(value, str) and value in kind.values):
                yield Fault(pointer, f"must be one of {', '.join(map(str, kind.values))}")
        case declared.NoneType():
            yield from _expect(value is None, "null", value, pointer)
        case declared.AnyType():
            return
        case _:
            raise NotImplementedError(f"the generated models have a type that is not checked yet: {kind!r}")


def _struct_faults(value: Any, kind: declared.StructType, pointer: str) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield from _expect(False, "an object", value, pointer)
        return
    for field in kind.fields:
        place = f"{pointer}/{escape(field.encode_name)}"
        if field.encode_name in value:
            yield from faults_of(value[field.encode_name], field.type, place)
        elif field.required:
            yield Fault(place, "is missing")
    if kind.cls.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - {field.encode_name for field in kind.fields}:
            yield Fault(f"{pointer}/{escape(name)}", "is not a member that the schema knows")


def _union_faults(value: Any, kind: declared.UnionType, pointer: str) -> Iterator[Fault]:
    """Optional members are unions with UNSET, which no JSON value is; any branch without a fault will do."""
    branches = [branch for branch in kind.types if not isinstance(branch, declared.CustomType)]
    found = [list(faults_of(value, branch, pointer)) for branch in branches]
    if all(found):
        yield from min(found, key=len)


def _string_faults(value: Any, kind: declared.StrType, pointer: str) -> Iterator[Fault]:
    """What the string is, is not told: it may be a secret at the wrong place."""
    if not isinstance(value, str):
        yield from _expect(False, "a string", value, pointer)
        return
    least, most = kind.min_length or 0, kind.max_length
    if len(value) < least or (most is not None and len(value) > most):
        yield Fault(pointer, f"must have {least} to {most} characters" if most else f"must have {least} or more")
    elif kind.pattern is not None and not re.search(kind.pattern, value):
        yield Fault(pointer, f"must match {kind.pattern}")


def _integer_faults(value: Any, kind: declared.IntType, pointer: str) -> Iterator[Fault]:
    if not (isinstance(value, Number) and value.text.lstrip("-").isdigit()):
        yield from _expect(False, "an integer", value, pointer)
        return
    # Very many digits take long to be turned into an integer, and are beyond any bound.
    endless = -math.inf if value.text.startswith("-") else math.inf
    number = int(value.text) if len(value.text) <= _MOST_DIGITS else endless
    if kind.ge is not None and number < kind.ge:
        yield Fault(pointer, f"must be {kind.ge} or more")
    elif kind.le is not None and number > kind.le:
        yield Fault(pointer, f"must be {kind.le} at most")


def _expect(holds: bool, wanted: str, value: Any, pointer: str) -> Iterator[Fault]:
    if not holds:
        yield Fault(pointer, f"must be {wanted}, not {_name(value)}")


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Number():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def escape(name: str) -> str:
    """A member's name as one token of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
