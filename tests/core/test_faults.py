"""All faults of an order at once, each where it is; and never a verdict other than the generated models'."""

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import msgspec.inspect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.faults import Fault, faults_of
from gateway.core.json_text import read_object
from generated.operations import PLACE

KIND = msgspec.inspect.type_info(PLACE.request_model)
ORDER: dict[str, Any] = {
    "items": [{"offerId": "off-1"}, {"offerId": "off-2"}],
    "serviceAddress": {"street": "s", "city": "c", "state": "CA", "zipCode": "9", "country": "US"},
    "customerInfo": {"fullName": "f", "email": "e", "phone": "p"},
    "notes": "n",
    "metadata": {"deep": [{"a": None}], "n": 1.5},
}
REQUIRED = [
    "/items", "/items/0/offerId", "/items/1/offerId", "/serviceAddress", "/customerInfo",
    *(f"/serviceAddress/{name}" for name in ORDER["serviceAddress"]),
    *(f"/customerInfo/{name}" for name in ORDER["customerInfo"]),
]  # fmt: skip
PLACES = [*REQUIRED, "/items/0", "/items/1", "/notes", "/metadata"]
WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**40,
    "",
    "text",
    [],
    [None],
    [[]],
    {},
    {"offerId": 1},
    {"x": {}},
]


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _holder(order: Any, pointer: str) -> tuple[Any, Any]:
    """What holds the place that the pointer names, and its index or name there."""
    *way, last = _parts(pointer)
    for part in way:
        order = order[int(part)] if isinstance(order, list) else order[part]
    return order, int(last) if isinstance(order, list) else last


def _faults(order: Any) -> list[Fault]:
    body = read_object(json.dumps(order).encode())
    return list(faults_of(body.values(), KIND))


def _models_refuse(order: Any) -> bool:
    try:
        msgspec.json.decode(json.dumps(order), type=PLACE.request_model)
    except msgspec.ValidationError:
        return True
    return False


Change = Callable[[Any], None]


def _without(pointer: str) -> Change:
    def change(order: Any) -> None:
        holder, last = _holder(order, pointer)
        del holder[last]

    return change


def _with(pointer: str, value: Any) -> Change:
    def change(order: Any) -> None:
        holder, last = _holder(order, pointer)
        holder[last] = copy.deepcopy(value)

    return change


CHANGES = st.one_of(
    st.sampled_from(PLACES).map(_without),
    st.builds(_with, st.sampled_from(PLACES), st.sampled_from(WRONG)),
    st.builds(
        _with, st.sampled_from(["/unknown", "/items/0/unknown", "/serviceAddress/street~1"]), st.sampled_from(WRONG)
    ),
    st.builds(_with, st.sampled_from(["/metadata/x", "/metadata/deep"]), st.sampled_from(WRONG)),
)


@given(st.lists(CHANGES, max_size=6))
def test_a_fault_is_found_exactly_where_the_models_refuse(changes: list[Change]) -> None:
    order = copy.deepcopy(ORDER)
    for change in changes:
        try:
            change(order)
        except (KeyError, IndexError, TypeError, ValueError):  # an earlier change took the place away
            continue
    found = _faults(order)
    assert bool(found) == _models_refuse(order), order
    for fault in found:
        _points_at_something(order, fault)
    assert len({fault.pointer for fault in found}) == len(found)


def _points_at_something(order: Any, fault: Fault) -> None:
    if not fault.pointer:
        return
    holder, last = _holder(order, fault.pointer)
    if fault.detail == "is missing":
        assert isinstance(holder, dict) and last not in holder
    else:
        holder[last]  # raises where there is nothing
        assert fault.detail.startswith("must be")


@pytest.mark.parametrize("pointer", REQUIRED)
def test_what_is_missing_is_named_where_it_should_be(pointer: str) -> None:
    order = copy.deepcopy(ORDER)
    _without(pointer)(order)
    assert _faults(order) == [Fault(pointer, "is missing")]


@pytest.mark.parametrize("pointer", PLACES)
@pytest.mark.parametrize(
    "value", [None, True, 5, "text", [], {}], ids=["null", "true", "number", "text", "array", "object"]
)
def test_each_place_takes_its_type_and_no_other(pointer: str, value: Any) -> None:
    order = copy.deepcopy(ORDER)
    kind = type(_holder(order, pointer)[0][_holder(order, pointer)[1]])
    _with(pointer, value)(order)
    found = _faults(order)
    assert bool(found) == _models_refuse(order)
    if not isinstance(value, kind):
        names = {
            type(None): "null",
            bool: "true",
            int: "a number",
            str: "a string",
            list: "an array",
            dict: "an object",
        }
        (fault,) = found
        assert fault.pointer == pointer
        assert fault.detail.endswith("not " + names[type(value)])
    else:
        assert all(fault.detail == "is missing" and fault.pointer.startswith(pointer + "/") for fault in found)


@given(st.sets(st.sampled_from([place for place in REQUIRED if place.count("/") > 1])))
def test_all_faults_are_reported_at_once(pointers: set[str]) -> None:
    order = copy.deepcopy(ORDER)
    for at, pointer in enumerate(sorted(pointers)):
        (_without(pointer) if at % 2 else _with(pointer, None))(order)
    assert {fault.pointer for fault in _faults(order)} == pointers


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1" * 5_000, "0." + "1" * 5_000])
def test_numbers_that_no_float_holds_are_no_fault(number: str) -> None:
    text = json.dumps({**ORDER, "metadata": {"x": 0}}).replace('"x": 0', f'"x": {number}')
    assert list(faults_of(read_object(text.encode()).values(), KIND)) == []


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    whole: int
    share: float = 0.0
    either: str | None = None


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ('{"whole":1}', []),
        ('{"whole":-12345678901234567890123,"share":1e5,"either":null}', []),
        ('{"whole":"1","share":"x","either":5}', ["/either", "/share", "/whole"]),
        ('{"whole":true,"share":false}', ["/share", "/whole"]),
        ('{"whole":1.5}', ["/whole"]),
        ('{"a/b~c":1}', ["/a~1b~0c", "/whole"]),
    ],
)
def test_what_other_schemas_may_hold(text: str, pointers: list[str]) -> None:
    kind = msgspec.inspect.type_info(_Strict)
    assert sorted(fault.pointer for fault in faults_of(read_object(text.encode()).values(), kind)) == pointers


def test_a_type_that_is_not_checked_yet_is_no_silent_yes() -> None:
    with pytest.raises(NotImplementedError):
        list(faults_of("x", msgspec.inspect.type_info(bytes)))
