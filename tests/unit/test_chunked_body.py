"""A chunked body comes out as one chunk, however it came in, and never otherwise than gunicorn's parser reads it."""

import io

import pytest
from gunicorn.http.body import ChunkedReader
from hypothesis import given
from hypothesis import strategies as st

from coupon.web.chunked_body import LINE_MAX, ChunkedBody
from coupon.web.connection import Received

NEXT = b"GET /livez HTTP/1.1\r\n"
LIMIT = 1_000


def taken(pieces: list[bytes], limit: int = LIMIT) -> tuple[bool, bool, bytes]:
    """Whether the body ended, whether it was sound, and what is left for the parser."""
    chunks, received = ChunkedBody(limit), bytearray()
    for number, piece in enumerate(pieces):
        received += piece
        if chunks.take(received):
            return True, chunks.is_sound, bytes(received + b"".join(pieces[number + 1 :]))
    return False, chunks.is_sound, bytes(received)


def parsed(raw: bytes) -> tuple[bytes, bytes]:
    """What gunicorn's parser makes of it, and what it leaves."""
    received = Received()
    received.data += raw
    request = type("Request", (), {"parse_headers": lambda _, data, from_trailer: data})()
    body = ChunkedReader(request, received).read(1_000_000)
    return body, bytes(received.data)


def chunked(parts: list[bytes], line: bytes = b"%x", end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join((line % len(part)) + b"\r\n" + part + b"\r\n" for part in parts if part) + end


@given(
    st.lists(st.binary(max_size=50), max_size=20),
    st.sampled_from([b"%x", b"%X", b"000%x", b"%x;a", b'%x ; a = "b;c"']),
    st.sampled_from([b"0\r\n\r\n", b"00;x\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"0\r\nA: b\r\nC: d\r\n\r\n"]),
    st.integers(1, 80),
)
def test_the_parser_reads_from_it_what_it_read_from_the_chunks(parts, line, end, size):
    raw = chunked(parts, line, end) + NEXT
    ended, is_sound, left = taken([raw[first : first + size] for first in range(0, len(raw), size)])
    assert (ended, is_sound) == (True, True)
    assert parsed(left) == parsed(raw) == (b"".join(parts), NEXT)


@given(st.binary(max_size=60), st.integers(1, 80))
def test_what_the_parser_refuses_is_not_made_sound(rest, size):
    raw = chunked([b"sound"], end=b"") + rest
    ended, is_sound, left = taken([raw[first : first + size] for first in range(0, len(raw), size)])
    if ended and is_sound:
        assert parsed(left) == parsed(raw)


@pytest.mark.parametrize("end", range(len(chunked([b"abc", b"d" * 20], end=b"0\r\nA: b\r\n\r\n"))))
def test_a_part_of_a_body_is_waited_for(end):
    assert taken([chunked([b"abc", b"d" * 20], end=b"0\r\nA: b\r\n\r\n")[:end]])[:2] == (False, True)


@pytest.mark.parametrize("parts", [[b"x" * (LIMIT + 1)], [b"x"] * (LIMIT + 1), [b"x" * LIMIT, b"x"]])
def test_a_body_beyond_the_limit_ends_and_is_longer_by_a_byte(parts):
    ended, is_sound, left = taken([chunked(parts)])
    assert (ended, is_sound, left[:5]) == (True, False, b"%x\r\n" % (LIMIT + 1))
    assert len(io.BytesIO(left).read()) == LIMIT + 1 + len(b"3e9\r\n\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"1" * (LINE_MAX + 1),
        b"1;" + b"a" * LINE_MAX,
        b"0\r\n" + b"a" * 5_000,
        b"".join(b"1;" + b"a" * 200 + b"\r\nx\r\n" for _ in range(100)),
        *(b"z\r\n", b"-1\r\nx\r\n", b"1\n", b"1\r\nxy\r\n", b"123456789\r\n"),
    ],
)
def test_what_breaks_the_rules_or_does_not_end_is_not_waited_for(raw):
    assert taken([raw])[:2] == (True, False)
