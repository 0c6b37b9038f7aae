"""Metadata is added as text: everything else of a body stays as the tenant wrote it."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.enrich import (
    MAX_METADATA_BYTES,
    enriched,
    is_reserved,
    metadata_of,
    metadata_size_fault,
    reserved_faults,
)
from gateway.core.json_text import read_object
from tests.core.json_tools import OBJECTS, TEXTS, VALUES, Num, accepted, rendered, seeded, space, spelled_text

SEEDS = st.integers(0, 2**32).map(seeded)
NAMES = TEXTS.filter(lambda name: not is_reserved(name))
METADATA = st.dictionaries(NAMES, VALUES, max_size=5)
ADMINISTERED = st.dictionaries(
    st.one_of(NAMES, st.sampled_from(["a", "b", "c"])),
    VALUES.map(lambda value: rendered(value, seeded(3))),
    max_size=3,
)
OWN = {"gatewayOrderId": '0198-é\u2028\n"', "gatewayTenant": "shop", "gatewayClaim": ""}


def _loads(text: str | bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(text, parse_int=Num, parse_float=Num)
    return found


@given(OBJECTS, st.one_of(st.none(), METADATA), ADMINISTERED, ADMINISTERED, SEEDS)
def test_only_metadata_changes_and_its_rules_hold(
    around: dict[str, object],
    metadata: dict[str, object] | None,
    defaults: dict[str, str],
    enforced: dict[str, str],
    rnd: random.Random,
) -> None:
    whole = {name: value for name, value in around.items() if name != "metadata"}
    if metadata is not None:
        whole["metadata"] = metadata
    text = space(rnd) + rendered(whole, rnd, shuffle=True) + space(rnd)
    body = read_object(text.encode())
    sent = enriched(body, own=OWN, defaults=defaults, enforced=enforced)
    assert accepted(sent), "what goes out has exactly one reading as well"
    found = _loads(sent)
    _outside_is_untouched(text, sent.decode())
    added = found.pop("metadata")
    assert found == {name: value for name, value in whole.items() if name != "metadata"}
    wanted = {name: _loads('{"v":' + value + "}")["v"] for name, value in defaults.items()}
    wanted |= metadata or {}
    wanted |= {name: _loads('{"v":' + value + "}")["v"] for name, value in enforced.items()}
    assert added == {**wanted, **OWN}
    assert isinstance(added, dict)
    own = metadata_of(body)
    mine = [member.name for member in own.members] if own else []
    assert list(added)[: len(mine)] == mine, "the tenant's members keep their order, enforced ones in place"


def _outside_is_untouched(before: str, after: str) -> None:
    """The two texts differ in the span of `metadata`, or by it alone."""
    old, new = read_object(before.encode()), read_object(after.encode())
    there, now = old.member("metadata"), new.member("metadata")
    assert now is not None
    if there is not None:
        assert before[: there.start] == after[: now.start]
        assert before[there.end :] == after[now.end :]
    else:
        comma = "," if old.members else ""
        assert after[: now.begin] == before[: old.closing] + comma
        assert after[now.end :] == before[old.closing :]


def test_numbers_keep_their_spelling() -> None:
    before = '"n":1.50,"m":[1e400,-0.0],"metadata":{"a":12345678901234567890.10,"b":0.1e-7'
    after = enriched(read_object(f"{{{before}}}}}".encode()), own=OWN, defaults={}, enforced={})
    assert after.startswith(f"{{{before},".encode())


@given(METADATA, SEEDS)
def test_the_tenants_members_keep_their_spelling(metadata: dict[str, object], rnd: random.Random) -> None:
    text = rendered({"metadata": metadata}, rnd)
    body = read_object(text.encode())
    before = metadata_of(body)
    assert before is not None
    after = metadata_of(read_object(enriched(body, own=OWN, defaults={}, enforced={})))
    assert after is not None
    spelled = [before.text[member.begin : member.end] for member in before.members]
    assert [after.text[member.begin : member.end] for member in after.members][: len(spelled)] == spelled


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{"metadata":{"gatewayX":"1"}}'),
        (" { } ", ' { "metadata":{"gatewayX":"1"}} '),
        ('{"a":1 }', '{"a":1 ,"metadata":{"gatewayX":"1"}}'),
        ('{"metadata":{}}', '{"metadata":{"gatewayX":"1"}}'),
        ('{"metadata": { } ,"a":1e0}', '{"metadata": {"gatewayX":"1"} ,"a":1e0}'),
        ('{"m\\u0065tadata":{"b":1.50}}', '{"m\\u0065tadata":{"b":1.50,"gatewayX":"1"}}'),
        ('{"metadata":{"\\u0062" : 1E0}}', '{"metadata":{"\\u0062" : 1E0,"gatewayX":"1"}}'),
        ('{"x":{"metadata":{"a":1}}}', '{"x":{"metadata":{"a":1}},"metadata":{"gatewayX":"1"}}'),
    ],
)
def test_metadata_that_is_absent_empty_or_oddly_spelled(before: str, after: str) -> None:
    assert enriched(read_object(before.encode()), own={"gatewayX": "1"}, defaults={}, enforced={}).decode() == after


def test_defaults_fill_and_enforced_replace_in_place() -> None:
    body = read_object(b'{"metadata":{"one":1,"tw\\u006f":2,"three":3}}')
    sent = enriched(
        body,
        own={},
        defaults={"one": '"default"', "four": "4.0"},
        enforced={"two": "2e0", "four": "null", "six": "[]"},
    )
    assert sent == b'{"metadata":{"one":1,"tw\\u006f":2e0,"three":3,"four":null,"six":[]}}'


@given(TEXTS, SEEDS, st.tuples(*[st.booleans()] * 7))
def test_reserved_names_are_found_in_any_case_and_escape(
    tail: str, rnd: random.Random, upper: tuple[bool, ...]
) -> None:
    name = "".join(letter.upper() if up else letter for letter, up in zip("gateway", upper, strict=True)) + tail
    text = '{"metadata":{"fine":1,' + spelled_text(name, rnd) + ":2}}"
    (fault,) = reserved_faults(read_object(text.encode()))
    assert fault.pointer == "/metadata/" + name.replace("~", "~0").replace("/", "~1")


@pytest.mark.parametrize(
    "name", ["gatewa", "gate", "", "my gateway", " gateway", "g\u0430teway", "ｇateway", "gate-way"]
)
def test_names_that_only_look_alike_are_the_tenants_own(name: str) -> None:
    assert not is_reserved(name)
    assert not list(reserved_faults(read_object(json.dumps({"metadata": {name: 1}, "gatewayX": 2}).encode())))


def test_reserved_names_deeper_in_metadata_are_the_tenants_own() -> None:
    assert not list(reserved_faults(read_object(b'{"metadata":{"a":{"gatewayX":1}}}')))


@pytest.mark.parametrize("filler", ["a", "é", "€", "😀", "\\u0061"])
@pytest.mark.parametrize("over", [0, 1])
def test_metadata_of_64_kib_is_taken_and_a_byte_more_is_not(filler: str, over: int) -> None:
    head, tail = '{"a":"', '"}'
    room = MAX_METADATA_BYTES + over - len(head) - len(tail)
    each = len(filler.encode())
    text = head + filler * (room // each) + "x" * (room % each) + tail
    assert len(text.encode()) == MAX_METADATA_BYTES + over
    fault = metadata_size_fault(read_object(('{"metadata": ' + text + " }").encode()))
    assert (fault is not None) == bool(over)
    if fault:
        assert fault.pointer == "/metadata"


@pytest.mark.parametrize("body", [b"{}", b'{"metadata":{}}', b'{"notes":"' + b"x" * 100_000 + b'"}'])
def test_only_metadata_is_measured(body: bytes) -> None:
    assert metadata_size_fault(read_object(body)) is None
