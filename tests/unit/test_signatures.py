"""Signatures of messages: what they cover, and what has none."""

import pytest

from coupon.domain.signatures import LENGTH, MessageKey, Signed, parse

KEY = MessageKey("a secret of the tests")
VALUE = b'{"kind":"issue"}'


def parts(value: bytes) -> Signed:
    signed = parse(value)
    assert signed is not None
    return signed


@pytest.mark.parametrize("value", [b"", VALUE, b"\x00\xff\n", b"ck1.", b"x" * 100_000])
@pytest.mark.parametrize("key", ["", "A" * 19, "쿠폰-ü-🎟", "a\x00b", "\udcff"])
def test_what_was_signed_is_recognised_and_readable(key, value):
    sealed = KEY.sign("commands", key, value)
    assert len(sealed) == len(value) + LENGTH
    assert sealed.endswith(b"\n" + value)
    assert parts(sealed).key_id == KEY.id
    assert parts(sealed).value == value
    assert KEY.has_signed("commands", key, parts(sealed))
    assert KEY.open("commands", key, sealed) == value


@pytest.mark.parametrize(("topic", "key"), [("creation", "k"), ("commands", "l"), ("command", "sk"), ("commandsk", "")])
def test_a_signature_is_of_one_topic_and_key(topic, key):
    sealed = KEY.sign("commands", "k", VALUE)
    assert not KEY.has_signed(topic, key, parts(sealed))
    assert KEY.open(topic, key, sealed) is None


def test_no_bit_of_a_signature_or_value_may_change():
    sealed = KEY.sign("commands", "k", VALUE)
    for place in range(len(sealed)):
        for bit in (1, 128):
            changed = bytearray(sealed)
            changed[place] ^= bit
            signed = parse(bytes(changed))
            assert KEY.open("commands", "k", bytes(changed)) is None
            assert signed is None or signed.key_id != KEY.id or not KEY.has_signed("commands", "k", signed)


@pytest.mark.parametrize("length", range(LENGTH))
def test_the_beginning_of_a_signature_is_none(length):
    assert parse(KEY.sign("commands", "k", VALUE)[:length]) is None
    assert KEY.open("commands", "k", KEY.sign("commands", "k", VALUE)[:length]) is None


@pytest.mark.parametrize("value", [b"", VALUE, b"ck2." + KEY.sign("t", "k", VALUE)[4:], b"x" * 200])
def test_other_values_have_no_signature(value):
    assert parse(value) is None


def test_another_secret_makes_another_key():
    other = MessageKey("another secret of the tests")
    assert other.id != KEY.id
    assert not other.has_signed("t", "k", parts(KEY.sign("t", "k", VALUE)))
