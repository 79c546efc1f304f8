import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupon.domain.errors import Malformed
from coupon.domain.model import HISTORY_MAX, REJECTIONS_MAX, Coupon, Kind, Reason, Rejection, transition
from coupon.domain.serialization import (
    AMOUNT_MAX,
    INSTANT_MAX,
    NAME_MAX,
    checked,
    decode_command,
    decode_coupon,
    decode_history,
    decode_rejections,
    document,
    encode_command,
    encode_coupon,
    encode_history,
    encode_rejections,
    instant,
)
from tests.coupons import NOW, a_command, a_coupon, a_creation

ISSUED = transition(a_coupon(), a_command(Kind.ISSUE, "i", user_id="Zoë 🎟"))


def test_a_coupon_comes_back_as_it_was():
    coupon = ISSUED._replace(rejections=(Rejection("late", 1, Reason.RIVAL_WON, NOW),))
    again = decode_coupon(encode_coupon(coupon))
    assert again == coupon
    assert isinstance(again.history[0].kind, Kind)


def test_a_marker_of_an_earlier_version_tells_of_its_complete_chunk():
    fields = json.loads(encode_coupon(ISSUED._replace(creation_size=0)))[:-1]
    read = decode_coupon(json.dumps(fields))
    assert (read.creation_size, read.chunk_complete) == (0, True)
    assert decode_coupon(encode_coupon(read)) == checked(read) == checked(read._replace(chunk_complete=False)) == read


@pytest.mark.parametrize(
    "command", [a_command(Kind.ISSUE, "i"), a_command(Kind.USE, "u"), a_creation(), a_creation(codes=("A" * 19,))]
)
def test_a_command_comes_back_as_it_was(command):
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("command", [a_command(Kind.USE, "u"), a_creation()])
def test_a_message_of_before_traces_is_read_and_one_of_a_later_version_too(command):
    """What a version does not know, it leaves out."""
    message = json.loads(encode_command(command))
    del message["traceparent"]
    assert decode_command(json.dumps(message)) == command
    assert decode_command(json.dumps(message | {"later": "x"})) == command


def test_a_creation_keeps_the_names_that_earlier_versions_read():
    written = json.loads(encode_command(a_creation(secret_fingerprint="of a secret")))
    assert written["mint"] == "of a secret"
    assert "secret_fingerprint" not in written


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW + 1, "2026-11-18T11:06:40.001Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (INSTANT_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_told_to_the_millisecond(milliseconds, text):
    assert instant(milliseconds) == text


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
        encode_command(a_command(Kind.USE, "u" * (NAME_MAX + 1))),
        encode_command(a_command(Kind.USE, "u", actor="a" * (NAME_MAX + 1))),
        encode_command(a_command(Kind.ISSUE, "i", user_id="🎟" * (NAME_MAX + 1))),
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
def test_what_can_never_be_applied_is_malformed(data):
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


[BIRTH], TOLD = a_coupon().history, transition(a_coupon(), a_command(Kind.ISSUE, "i")).history[1]
LATE = Rejection("late", 1, Reason.RIVAL_WON, NOW)
HEADS = [
    {"code": "a" * 19},
    {"code": "A" * 18},
    {"code": "A" * 18 + "É"},
    {"code": 1},
    {"valid_from": "2026-02-30"},
    {"expire_at": "20261130"},
    {"expire_at": None},
    {"created_at": -1},
    {"modified_at": INSTANT_MAX + 1},
    {"issued_at": 10**17},
    {"used_at": "soon"},
    {"creation_size": -1},
    {"chunk_complete": 1},
    {"creation_size": AMOUNT_MAX + 1},
    {"user_id": 5},
    {"user_id": "u" * (NAME_MAX + 1)},
    {"version": 0},
    {"version": 10**16},
    {"version": True},
    {"revision": -1},
    {"revision": 2.5},
]
"""What a field of a coupon's own must not be."""
HISTORIES = [
    (),
    (BIRTH,) * (HISTORY_MAX + 1),
    (BIRTH._replace(operation="o" * (NAME_MAX + 1)),),
    (BIRTH._replace(kind="burn"),),
    (BIRTH._replace(at=10**17),),
    (TOLD._replace(user_id="u" * (NAME_MAX + 1)),),
    (BIRTH._replace(actor=None),),
    (BIRTH[:4],),
]
REJECTIONS = [
    (LATE,) * (REJECTIONS_MAX + 1),
    (LATE._replace(version=0),),
    (LATE._replace(at=-1),),
    (LATE._replace(reason="BAD_LUCK"),),
    (LATE._replace(operation=7),),
]


@pytest.mark.parametrize("changes", HEADS)
def test_what_is_no_coupon_is_malformed_in_the_cache_and_in_a_row(changes):
    coupon = ISSUED._replace(**changes)
    with pytest.raises(Malformed):
        decode_coupon(encode_coupon(coupon))
    with pytest.raises(Malformed):
        checked(coupon)


@pytest.mark.parametrize(
    ("decode", "changes"),
    [(decode_history, {"history": entries, "version": HISTORY_MAX + 1}) for entries in HISTORIES]
    + [(decode_rejections, {"rejections": entries}) for entries in REJECTIONS],
)
def test_what_is_no_history_and_no_rejection_is_malformed(decode, changes):
    coupon = ISSUED._replace(**changes)
    with pytest.raises(Malformed):
        decode_coupon(encode_coupon(coupon))
    with pytest.raises(Malformed):
        decode((encode_history if "history" in changes else encode_rejections)(next(iter(changes.values()))))


def test_a_history_has_no_more_commands_than_the_coupon_has_versions():
    for decode in (lambda coupon: decode_coupon(encode_coupon(coupon)), checked):
        with pytest.raises(Malformed, match="2 commands in the history of version 1"):
            decode(ISSUED._replace(version=1))


def test_a_coupon_at_its_bounds_comes_back():
    user = "🎟" * NAME_MAX
    coupon = Coupon(
        code="A9" * 9 + "Z",
        valid_from="0001-01-01",
        expire_at="9999-12-31",
        created_at=0,
        modified_at=INSTANT_MAX,
        creation_size=AMOUNT_MAX,
        user_id=user,
        issued_at=INSTANT_MAX,
        used_at=INSTANT_MAX,
        version=INSTANT_MAX,
        revision=INSTANT_MAX,
        history=(TOLD._replace(user_id=user, actor="a" * NAME_MAX),) * HISTORY_MAX,
        rejections=(LATE,) * REJECTIONS_MAX,
    )
    assert decode_coupon(encode_coupon(coupon)) == checked(coupon) == coupon


def test_whatever_a_command_may_hold_a_coupon_may_hold():
    """What was applied can be read again."""
    long = "x" * NAME_MAX
    command = a_command(Kind.ISSUE, long, user_id=long, actor=long, accepted_at=INSTANT_MAX)
    coupon = transition(a_coupon(), decode_command(encode_command(command)))
    assert decode_coupon(encode_coupon(coupon)) == checked(coupon) == coupon
