"""A tenant's body has exactly one reading or none, and its text is kept to the byte."""

import json
import random
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.json_text import MAX_NESTING, Number, canonical_json, read_object
from gateway.errors import BadRequest
from tests.core.json_tools import NUMBERS, OBJECTS, VALUES, Num, accepted, exact, rendered, seeded, space

SEEDS = st.integers(0, 2**32).map(seeded)


def _plain(value: object) -> object:
    """A parsed value with numbers as the spelling type of the tests."""
    if isinstance(value, Number):
        return Num(value.text)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


@given(OBJECTS, SEEDS)
def test_any_object_in_any_spelling_is_read_and_its_spans_are_exact(
    value: dict[str, object], rnd: random.Random
) -> None:
    text = space(rnd) + rendered(value, rnd) + space(rnd)
    found = read_object(text.encode())
    assert found.text == text
    assert _plain(found.values()) == value
    assert [member.name for member in found.members] == list(value)
    assert text[found.closing] == "}" and not text[found.closing + 1 :].strip(" \t\r\n")
    for member in found.members:
        whole = text[member.begin : member.end]
        assert json.loads("{" + whole + "}", parse_int=Num, parse_float=Num) == {member.name: value[member.name]}
        assert json.loads(text[member.start : member.end], parse_int=Num, parse_float=Num) == value[member.name]
        assert not text[member.start].isspace() and not text[member.end - 1].isspace()
        assert text[member.begin] == '"'


MARKS = st.sampled_from([
    *'{}[]",:\\/ \n\t', "null", "true", "NaN", "Infinity", "-Infinity", "1", "-", "1.", ".5", "01", "1e", "+1", '"a"',
    '"a":1', '"\\u0061":2', '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', "\x00", "\x7f", "\ufeff", "\xa0", "é",
])  # fmt: skip


@given(st.lists(MARKS, max_size=12).map("".join))
@example('{"a":1,"a":2}')
@example('{"x":{"a":1,"\\u0061":2}}')
@example('{"x":[{"y":{"\\ud83d":1}}]}')
@example('{"a":1} {')
def test_the_strict_reader_agrees_with_a_slow_one_on_broken_bodies(text: str) -> None:
    _agree(text.encode("utf-8", "surrogatepass"))


@given(OBJECTS, SEEDS, st.lists(st.tuples(st.integers(0, 200), MARKS, st.booleans()), max_size=3))
def test_the_strict_reader_agrees_with_a_slow_one_on_damaged_bodies(
    value: dict[str, object], rnd: random.Random, wounds: list[tuple[int, str, bool]]
) -> None:
    text = rendered(value, rnd)
    for at, mark, replaces in wounds:
        text = text[:at] + mark + text[at + replaces :]
    _agree(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_the_strict_reader_agrees_with_a_slow_one_on_any_bytes(noise: bytes, more: bytes) -> None:
    _agree(noise)
    _agree(b'{"a":"' + noise + b'"}' + more)


def _agree(body: bytes) -> None:
    try:
        read_object(body)
    except BadRequest:
        taken = False
    else:
        taken = True
    assert taken == accepted(body), body


REFUSED = {
    "empty": b"",
    "white space": b" \n",
    "an array": b"[]",
    "a text": b'"{}"',
    "a number": b"5",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "UTF-32": '{"a":1}'.encode("utf-32-be"),
    "overlong slash": b'{"a":"\xc0\xaf"}',
    "overlong quote": b'{"a":"\xc0\xa2"}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "cut in a character": b'{"a":"\xc3',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":[Infinity]}',
    "-Infinity": b'{"a":-Infinity}',
    "newline in a text": b'{"a":"\n"}',
    "NUL in a text": b'{"a":"\x00"}',
    "tab in a name": b'{"\t":1}',
    "bad escape": b'{"a":"\\x41"}',
    "short escape": b'{"a":"\\u12"}',
    "underscored escape": b'{"a":"\\u1_23"}',
    "comma at the end": b'{"a":1,}',
    "no comma": b'{"a":1 "b":2}',
    "no colon": b'{"a" 1}',
    "no value": b'{"a":}',
    "single quotes": b"{'a':1}",
    "no quotes": b"{a:1}",
    "a comment": b'{"a":1/**/}',
    "two objects": b"{}{}",
    "something behind": b"{} x",
    "NUL behind": b"{}\x00",
    "no break space before": b"\xc2\xa0{}",
    "form feed": b"\x0c{}",
    "leading zero": b'{"a":01}',
    "plus": b'{"a":+1}',
    "bare point": b'{"a":1.}',
    "point first": b'{"a":.1}',
    "hexadecimal": b'{"a":0x10}',
    "digits of another script": '{"a":١}'.encode(),
    "minus alone": b'{"a":-}',
    "open string": b'{"a":"',
    "open string ending in a backslash": b'{"a":"\\',
    "open object": b'{"a":1',
    "duplicate": b'{"a":1,"a":1}',
    "duplicate by escape": b'{"a":1,"\\u0061":1}',
    "duplicate inside": b'{"x":{"a":1,"a":1}}',
    "duplicate inside an array": b'{"x":[0,{"y":[{"a":1,"\\u0061":1}]}]}',
    "duplicate empty names": b'{"":1,"":2}',
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":["\\uDC00"]}',
    "surrogates the wrong way round": b'{"a":"\\ude00\\ud83d"}',
    "lone surrogate in a name": b'{"\\ud800":1}',
    "lone surrogate in a name inside": b'{"a":{"b":{"\\udfff":1}}}',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_a_body_with_two_readings_or_none_is_refused(body: bytes) -> None:
    assert not accepted(body)
    with pytest.raises(BadRequest):
        read_object(body)


PASSED = {
    "5,000 digits": b"1" * 5_000,
    "a float of 5,000 digits": b"0." + b"1" * 5_000,
    "1e999": b"1e999",
    "-0": b"-0",
    "a long exponent": b"1e" + b"9" * 5_000,
    "U+0000 by escape": b'"\\u0000"',
    "DEL": b'"\x7f"',
    "a pair by escapes": b'"\\ud83d\\uDE00"',
    "a noncharacter": b'"\xef\xbf\xbf"',
    "brackets in a text": b'"' + b"[{" * 500 + b'"',
    "brackets behind an escaped quote": b'"\\"' + b"[{" * 500 + b'"',
    "a text that ends in a backslash, then brackets in another": b'["\\\\","' + b"[" * 500 + b'"]',
    "a byte order mark inside": b'"\xef\xbb\xbf"',
}


@pytest.mark.parametrize("text", PASSED.values(), ids=PASSED.keys())
def test_what_json_allows_is_passed_on_as_it_is_spelled(text: bytes) -> None:
    body = b'{"a":' + text + b"}"
    found = read_object(body)
    member = found.members[0]
    assert found.text.encode() == body
    assert found.text[member.start : member.end].encode() == text
    canonical_json(found.values())


def _nested(levels: int, opening: str, closing: str, inside: str = "") -> bytes:
    """An object that is level 1, with `levels - 1` more inside."""
    return ('{"a":' + opening * (levels - 1) + inside + closing * (levels - 1) + "}").encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"b":', "}]")])
@pytest.mark.parametrize("inside", ["1", '"' + "[" * 100 + '"', '"\\"' + "}" * 100 + '"'])
def test_64_levels_are_taken_and_65_are_not(opening: str, closing: str, inside: str) -> None:
    step = opening.count("[") + opening.count("{")
    most = 1 + (MAX_NESTING - 1) // step
    read_object(_nested(most, opening, closing, inside))
    with pytest.raises(BadRequest, match="64 levels"):
        read_object(_nested(most + 1, opening, closing, inside))


def test_siblings_do_not_count_as_depth() -> None:
    read_object(b'{"a":[' + b",".join([b"[]"] * 1_000) + b"]}")


@pytest.mark.parametrize(
    "body",
    [
        _nested(100_000, "[", "]"),
        _nested(100_000, '{"a":', "}", "1"),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"{" * 65 + b'"' + b"[" * 100_000,
        b'{"a":' + b"[" * 65 + b'"' + b'\\"' * 100_000,  # an open string of quotes: read once, not once a quote
        b'{"a":' + b"[" * 65 + b'"' + b"\\" * 200_001,
        b'{"a":' + b"[" * 65 + b'"\\' * 100_000,
    ],
    ids=["arrays", "objects", "open arrays", "open objects", "open string", "quotes", "backslashes", "strings"],
)
def test_bottomless_bodies_are_refused_without_recursion_and_in_one_pass(body: bytes) -> None:
    limit = sys.getrecursionlimit()
    with pytest.raises(BadRequest):
        read_object(body)
    assert sys.getrecursionlimit() == limit


def test_100_000_members_are_read() -> None:
    body = json.dumps({f"name-{at}": at for at in range(100_000)}).encode()
    assert len(read_object(body).members) == 100_000


def test_refusals_show_nothing_of_the_body() -> None:
    for body in (
        b'{"customer-secret": nope}',
        b'{"customer-secret":1,"customer-secret":2}',
        b'{"a":"customer-secret\xff"}',
    ):
        with pytest.raises(BadRequest) as caught:
            read_object(body)
        assert "customer" not in caught.value.detail


# Canonical JSON: the same bytes exactly for equal values.


def _canonical(text: str) -> bytes:
    return canonical_json(read_object(('{"v":' + text + "}").encode()).values())


@given(VALUES, SEEDS)
def test_spelling_order_and_white_space_do_not_change_the_canonical_form(value: object, rnd: random.Random) -> None:
    plain = rendered(value, seeded(0))
    other = rendered(value, rnd, shuffle=True, respell=True)
    assert _canonical(plain) == _canonical(other)


@given(VALUES, VALUES)
def test_different_values_have_different_canonical_forms(one: object, other: object) -> None:
    same = _canonical(rendered(one, seeded(1))) == _canonical(rendered(other, seeded(2)))
    assert same == (exact(one) == exact(other))


@given(NUMBERS, NUMBERS, SEEDS)
def test_numbers_are_compared_exactly(one: Num, other: Num, rnd: random.Random) -> None:
    assert Number(one).canonical() == Number(rendered(one, rnd, respell=True)).canonical()
    assert (Number(one).canonical() == Number(other).canonical()) == (exact(one) == exact(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.1", "0.1000000000000000055511151231257827"),
        ("9007199254740992", "9007199254740993"),
        ("9007199254740992.0", "9007199254740993.0"),
        ("1e400", "1e401"),
    ],
)
def test_numbers_in_bodies_are_compared_exactly(one: str, other: str) -> None:
    """Each pair is one number to whoever reads it as a float."""
    assert _canonical(one) != _canonical(other)


@pytest.mark.parametrize(
    "spellings",
    [
        ("1.50", "15e-1", "1.5e0", "1.5", "0.15E+1", "0.0015e3", "150e-2"),
        ("10", "1e1", "1E+01", "100e-1", "1e0000000000000000000000001"),
        ("0", "0.0", "0e5", "0.000E-99", "0e99999999999999999999999", "0e-99999999999999999999"),
        ("-0", "-0.0", "-0e7"),
        ("1e-1", "0.1", "1e-0000000000000000000000000000001"),
        ("1e+123456789012345678", "10e123456789012345677"),
        ("9007199254740993",),
        ("9007199254740992",),
        ("0.1000000000000000055511151231257827",),
    ],
)
def test_spellings_of_one_number_agree_and_no_other_number_joins_them(spellings: tuple[str, ...]) -> None:
    forms = {Number(text).canonical() for text in spellings}
    assert len(forms) == 1
    others = {Number(text).canonical() for text in ("1", "15", "1.05", "100", "-1.5", "0.01", "9007199254740994")}
    assert not forms & others


def test_zero_keeps_its_sign() -> None:
    assert Number("-0").canonical() != Number("0").canonical()


def test_exponents_beyond_reckoning_stand_for_themselves() -> None:
    big = "9" * 5_000
    assert Number(f"1e{big}").canonical() == f"1e{big}"
    assert Number(f"1e{big}").canonical() != Number(f"1e-{big}").canonical()


@given(st.one_of(NUMBERS, st.just(Num("1"))), OBJECTS)
def test_no_body_can_imitate_a_number(number: Num, other: dict[str, object]) -> None:
    form = canonical_json(Number(number))
    assert json.loads(form) == {"\ud800": Number(number).canonical()}
    with pytest.raises(BadRequest):
        read_object(b'{"v":' + form + b"}")
    assert _canonical(str(number)) != canonical_json({"v": other})
    assert _canonical(json.dumps(str(number))) != _canonical(str(number))
