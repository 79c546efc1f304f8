import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupon.model import Kind, Reason, Rejection, transition
from coupon.wire import (
    INSTANT_MAX,
    Malformed,
    decode_command,
    decode_coupon,
    document,
    encode_command,
    encode_coupon,
    instant,
)
from tests.coupons import NOW, a_command, a_coupon, a_creation

ISSUED = transition(a_coupon(), a_command(Kind.ISSUE, "i", user_id="Zoë 🎟"))


def test_a_coupon_comes_back_as_it_was():
    coupon = ISSUED._replace(rejections=(Rejection("late", 1, Reason.RIVAL_WON, NOW),))
    again = decode_coupon(encode_coupon(coupon))
    assert again == coupon
    assert isinstance(again.history[0].kind, Kind)


@pytest.mark.parametrize(
    "command", [a_command(Kind.ISSUE, "i"), a_command(Kind.USE, "u"), a_creation(), a_creation(codes=("A" * 19,))]
)
def test_a_command_comes_back_as_it_was(command):
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize(
    ("milliseconds", "told"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW + 1, "2026-11-18T11:06:40.001Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (INSTANT_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_told_to_the_millisecond(milliseconds, told):
    assert instant(milliseconds) == told


def test_a_document_has_the_wire_names():
    assert document(ISSUED) == {
        "couponCode": "A" * 19,
        "userId": "Zoë 🎟",
        "issued": True,
        "used": False,
        "validFrom": "2026-11-01",
        "expireAt": "2026-11-30",
        "issuedAt": "2026-11-18T11:06:40.001Z",
        "usedAt": None,
        "createdAt": "2026-11-18T11:06:40.000Z",
        "modifiedAt": "2026-11-18T11:06:40.001Z",
        "version": 2,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"kind":"burn"}',
        b'{"kind":["use"]}',
        b"null",
        json.dumps({**a_command(Kind.ISSUE, "i")._asdict(), "user_id": None}).encode(),
        json.dumps({**a_command(Kind.USE, "u")._asdict(), "previous_version": "1"}).encode(),
        json.dumps({**a_command(Kind.USE, "u")._asdict(), "accepted_at": True}).encode(),
        json.dumps({"kind": "create", **a_creation()._asdict(), "codes": [1]}).encode(),
        b"[" * 100_000,
        encode_command(a_command(Kind.ISSUE, "i", user_id="ann")).decode().encode("utf-16"),
        encode_command(a_command(Kind.ISSUE, "i", user_id="ann")).replace(b"ann", b"\xed\xa0\x80"),
        encode_command(a_command(Kind.USE, "u", code="a" * 19)),
        encode_command(a_command(Kind.USE, "u", code="A" * 300)),
        encode_command(a_command(Kind.USE, "u", accepted_at=10**18)),
        encode_command(a_command(Kind.USE, "u", accepted_at=-1)),
        encode_command(a_command(Kind.USE, "u", day="20261118")),
        encode_command(a_creation(size=0)),
        encode_command(a_creation(size=-5)),
        encode_command(a_creation(size=10**9)),
        encode_command(a_creation(size=2, first=10**9 - 1)),
        encode_command(a_creation(accepted_at=2**70)),
        encode_command(a_creation(expire_at="2026-02-30")),
        encode_command(a_creation(size=2, amount=2, codes=("A" * 19,))),
        encode_command(a_command(Kind.ISSUE, "i", user_id="ann")).replace(b"ann", b"\\ud800"),
    ],
)
def test_what_can_never_be_carried_out_is_malformed(data):
    with pytest.raises(Malformed):
        decode_command(data)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_nothing_but_malformed_comes_of_garbage(data):
    for decode in (decode_command, decode_coupon):
        with pytest.raises(Malformed):
            decode(data)
