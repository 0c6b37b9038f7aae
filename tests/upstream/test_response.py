"""One response read from bytes: the same however they are cut, and never more than a strict reading gives."""

import gc
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.upstream.response import MAX_HEAD_BYTES, Broken, RawResponse, ResponseReader
from tests.upstream import strict
from tests.upstream.mutations import CHUNKED, EMPTY, HEAD, INTERIM, SAMPLES, UNTIL_EOF, cut, mutated
from tests.upstream.wire import OK, OK_BODY

MAX_BODY = 5_000


def read(*pieces: bytes, max_body: int = MAX_BODY, ends: bool = True) -> RawResponse | str:
    """What the reader makes of these pieces and then the end of the stream: a response, or the fault."""
    reader = ResponseReader(max_body)
    try:
        for piece in pieces:
            if reader.feed(piece):
                return reader.response()
        if ends and reader.eof():
            return reader.response()
    except Broken as fault:
        return str(fault)
    return "not whole yet"


@pytest.mark.parametrize("name", SAMPLES)
def test_cutting_a_response_anywhere_changes_nothing(name: str) -> None:
    raw = SAMPLES[name]
    whole = read(raw)
    assert isinstance(whole, RawResponse)
    assert whole.body == getattr(strict.read(raw, MAX_BODY), "body", None)
    for at in range(1, len(raw)):
        assert read(raw[:at], raw[at:]) == whole, f"cut at {at}"
    assert read(*(raw[at : at + 1] for at in range(len(raw)))) == whole


@pytest.mark.parametrize("name", SAMPLES)
def test_a_response_cut_short_is_never_whole(name: str) -> None:
    raw = SAMPLES[name]
    body_starts = raw.rindex(b"\r\n\r\n") + 4 if name == "until-eof" else len(raw)
    for at in range(body_starts):
        assert isinstance(read(raw[:at]), str), f"cut off at {at}"


LF_ONLY = OK.replace(b"\r\n", b"\n")
BROKEN = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "line ends of LF only": LF_ONLY,
    "one LF in the headers": OK.replace(b"json\r\n", b"json\n"),
    "an empty line first": b"\r\n" + OK,
    "an empty line after an interim response": b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK,
    "another protocol after an interim response": b"HTTP/1.1 100 Continue\r\n\r\n" + OK.replace(b"HTTP", b"RTSP"),
    "RTSP": OK.replace(b"HTTP", b"RTSP"),
    "ICE": OK.replace(b"HTTP", b"ICE"),
    "HTTP/0.9": OK.replace(b"1.1", b"0.9"),
    "HTTP/2.0": OK.replace(b"1.1", b"2.0"),
    "status 099": OK.replace(b"201", b"099"),
    "status 600": OK.replace(b"201", b"600"),
    "a control character in the reason": OK.replace(b"Created", b"Cre\x00ated"),
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + OK,
    "switching protocols without upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
    "eleven interim responses": b"HTTP/1.1 102 Processing\r\n\r\n" * 11 + OK,
    "length and coding": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
    "the same length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a length with a sign": HEAD + b"content-length: +2\r\n\r\n{}",
    "no length in the length": HEAD + b"content-length:\r\n\r\n{}",
    "a hexadecimal length": HEAD + b"content-length: 0x2\r\n\r\n{}",
    "a length beyond 64 bits": HEAD + b"content-length: 99999999999999999999\r\n\r\n{}",
    "a length of many zeros": HEAD + b"content-length: " + b"0" * 6000 + b"2\r\n\r\n{}",
    "a folded length": HEAD + b"content-length: 2\r\n 0\r\n\r\n{}",
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "gzip as transfer coding": HEAD + b"transfer-encoding: gzip\r\n\r\n{}",
    "gzip and chunked": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n2\r\n{}\r\n0\r\n\r\n",
    "a made-up coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk size that is no number": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with 0x": HEAD + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"f" * 17
    + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk without its line end": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "chunks with LF only": HEAD + b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "gzip": HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "brotli": HEAD + b"content-encoding: identity, br\r\ncontent-length: 2\r\n\r\n{}",
    "a body that is declared too large": HEAD + b"content-length: 5001\r\n\r\n",
    "a body that is too large": HEAD + b"\r\n" + b"x" * 5001,
    "chunks that are too large": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"1000\r\n"
    + b"x" * 4096
    + b"\r\n3e8\r\n"
    + b"x" * 1000,
    "a header that is too large": HEAD + b"x-a: " + b"a" * (MAX_HEAD_BYTES + 1),
    "headers that are too large": HEAD + b"".join(b"x-%d: %b\r\n" % (n, b"a" * 9000) for n in range(8)),
    "large headers that end": HEAD + b"x-a: " + b"a" * MAX_HEAD_BYTES + b"\r\ncontent-length: 2\r\n\r\n{}",
    "too many headers": HEAD + b"x: y\r\n" * 257,
    "too many trailers": CHUNKED[:-2] + b"x: y\r\n" * 257,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_one_whole_readable_response_is_broken(name: str) -> None:
    raw = BROKEN[name]
    fault = read(raw, ends=False)
    assert isinstance(fault, str)
    if name != "a body that is too large":
        # Refused when it is seen, not at the deadline.
        assert fault != "not whole yet"
    assert isinstance(read(*(raw[at : at + 1] for at in range(len(raw)))), str)


def test_chunks_of_nothing_but_framing_end_at_a_limit() -> None:
    extension = b"1;" + b"x" * 60_000 + b"\r\nx\r\n"
    fault = read(HEAD + b"transfer-encoding: chunked\r\n\r\n", *[extension] * 5, ends=False)
    assert fault == "too many bytes for the body they carry"


def test_ten_interim_responses_are_skipped_with_their_headers() -> None:
    found = read(b"HTTP/1.1 103 Early Hints\r\nretry-after: 9\r\n\r\n" * 10 + OK)
    assert isinstance(found, RawResponse)
    assert (found.status, found.body) == (201, OK_BODY)
    assert b"retry-after" not in dict(found.headers)


@pytest.mark.parametrize(
    ("raw", "reusable"),
    [
        (OK, True),
        (CHUNKED, True),
        (EMPTY, True),
        (INTERIM, True),
        (UNTIL_EOF, False),
        (OK.replace(b"1.1", b"1.0"), False),
        (OK.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n"), False),
        (OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), False),
        (OK.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive, Close\r\n\r\n"), False),
        (OK.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n"), False),
    ],
)
def test_connection_is_kept_only_when_both_sides_agree(raw: bytes, reusable: bool) -> None:
    found = read(raw)
    assert isinstance(found, RawResponse)
    assert found.reusable is reusable


@pytest.mark.parametrize("extra", [b"x", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"0\r\n\r\n", OK, b"\0"])
@pytest.mark.parametrize("name", ["length", "chunked", "interim", "empty"])
def test_bytes_behind_a_response_do_not_count_and_end_the_connection(name: str, extra: bytes) -> None:
    alone, followed = read(SAMPLES[name]), read(SAMPLES[name] + extra)
    assert isinstance(alone, RawResponse)
    assert isinstance(followed, RawResponse)
    assert (followed.status, followed.headers, followed.body) == (alone.status, alone.headers, alone.body)
    assert alone.reusable
    assert not followed.reusable


class Watched(ResponseReader):
    """One whose end can be seen."""

    __slots__ = ("__weakref__",)


def test_a_reader_leaves_nothing_for_the_garbage_collector() -> None:
    """It goes with its last reference. Not counted in what the collector finds: other tests' threads leave some too."""
    gc.disable()
    try:
        for raw in (OK, CHUNKED, INTERIM):
            reader = Watched(MAX_BODY)
            assert reader.feed(raw)
            reader.response()
            gone = weakref.ref(reader)
            del reader
            assert gone() is None
    finally:
        gc.enable()


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=mutated(), places=st.lists(st.floats(0, 1), max_size=6))
def test_no_mutation_is_read_as_more_than_a_strict_reading_gives(raw: bytes, places: list[float]) -> None:
    found, judged = read(*cut(raw, places)), strict.read(raw, MAX_BODY)
    if isinstance(found, RawResponse):
        assert judged is not None, "accepted what a strict reading refuses"
        assert (found.status, found.body) == (judged.status, judged.body)
        # How far it was read when it was whole depends on the cutting; behind the end nothing may be kept.
        assert not (found.reusable and judged.rest and len(cut(raw, places)) == 1)
