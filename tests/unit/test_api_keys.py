import pytest

from coupon.domain.api_keys import KEYS_MAX, TOKENS_MAX, Identity, KeyRing, Role, decode_ring
from coupon.domain.errors import InvalidApiKey, Malformed

NOW = 1_000_000
EMPTY = KeyRing({})


def with_key(name: str = "shop", expires_at: int | None = None) -> tuple[KeyRing, str]:
    return EMPTY.with_new(name, Role.APP, NOW, expires_at)


def test_a_token_is_found_and_no_other_is():
    ring, token = with_key()
    assert ring.find(token, NOW) == Identity("shop", Role.APP)
    for other in ("", "ck_", token[:-1], token + "x", token.lower(), "ck_\ud800"):
        assert ring.find(other, NOW) is None


def test_a_ring_comes_back_from_its_text_and_shows_no_token():
    ring, token = with_key(expires_at=NOW + 5)
    text = ring.encoded()
    assert token not in text
    assert token.removeprefix("ck_") not in text
    assert decode_ring(text).keys == ring.keys
    assert decode_ring(text).find(token, NOW) == Identity("shop", Role.APP)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "keys": {"a": {"role": "king"}}}', "\ud800"])
def test_another_text_is_no_ring(text):
    with pytest.raises(Malformed):
        decode_ring(text)


def test_a_key_ends_at_its_instant():
    ring, token = with_key(expires_at=NOW + 5)
    assert ring.find(token, NOW + 4) is not None
    assert ring.find(token, NOW + 5) is None


def test_a_revoked_key_is_found_no_more():
    ring, token = with_key()
    ring, other = ring.with_new("till", Role.APP, NOW, None)
    ring = ring.without("shop", last=False)
    assert ring.find(token, NOW) is None
    assert ring.find(other, NOW) is not None


def test_the_last_key_is_revoked_only_when_that_is_meant():
    ring, _ = with_key()
    with pytest.raises(InvalidApiKey, match="the last key"):
        ring.without("shop", last=False)
    assert not ring.without("shop", last=True)


def test_after_a_rotation_both_tokens_are_valid_until_the_overlap_ends():
    ring, first = with_key()
    ring, second = ring.with_another_token("shop", NOW, NOW + 10)
    assert ring.find(first, NOW + 9) == ring.find(second, NOW + 9) == Identity("shop", Role.APP)
    assert ring.find(first, NOW + 10) is None
    assert ring.find(second, NOW + 10) is not None


def test_a_second_rotation_gives_no_token_more_time():
    ring, first = with_key()
    ring, _ = ring.with_another_token("shop", NOW, NOW + 10)
    ring, _ = ring.with_another_token("shop", NOW + 1, NOW + 1_000)
    assert ring.find(first, NOW + 10) is None


def test_a_rotation_makes_no_expired_key_valid():
    ring, _ = with_key(expires_at=NOW + 5)
    with pytest.raises(InvalidApiKey, match="expired"):
        ring.with_another_token("shop", NOW + 5, NOW + 10)
    ring, second = ring.with_another_token("shop", NOW, NOW + 10)
    assert ring.find(second, NOW + 5) is None


def test_a_key_has_a_few_valid_tokens_at_most():
    ring, _ = with_key()
    for _ in range(TOKENS_MAX - 1):
        ring, _ = ring.with_another_token("shop", NOW, NOW + 10)
    ring, _ = ring.with_another_token("shop", NOW + 10, NOW + 20)  # those from before are over
    ring, token = ring.with_another_token("shop", NOW + 10, NOW + 10)
    assert len(ring.keys["shop"].tokens) <= TOKENS_MAX
    for _ in range(TOKENS_MAX - 1):
        ring, _ = ring.with_another_token("shop", NOW + 10, NOW + 20)
    with pytest.raises(InvalidApiKey, match="valid already"):
        ring.with_another_token("shop", NOW + 10, NOW + 20)
    assert ring.find(token, NOW + 15) is not None


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "-a", "ä", "a" * 65, "a/b", "a\0"])
def test_a_name_is_one_that_fits_everywhere(name):
    with pytest.raises(InvalidApiKey, match="is no name"):
        EMPTY.with_new(name, Role.APP, NOW, None)


def test_a_name_belongs_to_one_key():
    ring, _ = with_key()
    with pytest.raises(InvalidApiKey, match="already"):
        ring.with_new("shop", Role.ADMIN, NOW, None)


def test_of_a_name_without_a_key_nothing_can_be_done():
    with pytest.raises(InvalidApiKey, match="no key 'shop'"):
        EMPTY.without("shop", last=True)
    with pytest.raises(InvalidApiKey, match="no key 'shop'"):
        EMPTY.with_another_token("shop", NOW, NOW)


def test_a_full_ring_with_the_longest_names_fits_into_a_record():
    from coupon.ports.store import BODY_BYTES

    key = with_key(expires_at=NOW**2)[0].keys["shop"]
    whole = type(key)(role=Role.OPERATOR, created_at=NOW**2, expires_at=NOW**2, tokens=key.tokens * TOKENS_MAX)
    keys = {f"{number:064d}": whole for number in range(KEYS_MAX)}
    assert len(KeyRing(keys).encoded().encode()) <= BODY_BYTES
    with pytest.raises(InvalidApiKey, match="the most"):
        KeyRing(keys).with_new("one-more", Role.APP, NOW, None)
