"""What a token looks like, and that nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import ID_BYTES, SECRET_BYTES, Token, mint, parse

TOKENS = st.builds(
    mint, st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
)


@given(TOKENS)
def test_a_minted_token_is_read_again(token: Token) -> None:
    text = token.text()
    assert parse(text) == token
    assert text.isascii() and len(text) == 67 and text.count("_") == 2
    assert token.secret not in repr(token) and token.secret not in str(token) and token.token_id in repr(token)


@given(TOKENS, TOKENS)
def test_different_bytes_make_different_tokens(one: Token, other: Token) -> None:
    assert (one.text() == other.text()) == (one == other)


@given(TOKENS, st.integers(0, 67), st.characters(), st.booleans())
def test_a_token_with_one_character_changed_is_another_or_none(
    token: Token, at: int, mark: str, replace: bool
) -> None:
    text = token.text()
    changed = text[:at] + mark + text[at + replace :]
    assert parse(changed) != token or changed == text


@given(st.text())
def test_any_text_is_a_token_or_none(text: str) -> None:
    found = parse(text)
    assert found is None or found.text() == text


GOOD = mint(bytes(ID_BYTES), bytes(SECRET_BYTES)).text()


@pytest.mark.parametrize(
    "text", ["", "ogt_", "ogt__", GOOD + "\n", "\n" + GOOD, " " + GOOD, GOOD.upper(), GOOD + "a", GOOD[:-1],
             GOOD + GOOD, GOOD.replace("_", "-"), GOOD.replace("a", "1"), GOOD.replace("a", "ａ"),
             GOOD.replace("ogt", "ogT"), "Bearer " + GOOD],
)  # fmt: skip
def test_what_only_looks_like_a_token_is_none(text: str) -> None:
    assert parse(text) is None
