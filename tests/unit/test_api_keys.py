import pytest

from coupon.domain.api_keys import KEYS_MAX, TOKENS_MAX, ApiKeys, Identity, Role, decode_api_keys
from coupon.domain.errors import InvalidApiKey, Malformed

NOW = 1_000_000
EMPTY = ApiKeys({})
SHOP = Identity("shop", Role.APP, scope=str(NOW))


def with_key(name: str = "shop", expires_at: int | None = None) -> tuple[ApiKeys, str]:
    return EMPTY.with_new(name, Role.APP, NOW, expires_at)


def test_a_token_is_found_and_no_other_is():
    keys, token = with_key()
    assert keys.find(token, NOW) == SHOP
    for other in ("", "ck_", token[:-1], token + "x", token.lower(), "ck_\ud800"):
        assert keys.find(other, NOW) is None


def test_keys_come_back_from_their_text_which_shows_no_token():
    keys, token = with_key(expires_at=NOW + 5)
    text = keys.encoded()
    assert token not in text
    assert token.removeprefix("ck_") not in text
    assert decode_api_keys(text).keys == keys.keys
    assert decode_api_keys(text).find(token, NOW) == SHOP


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "keys": {"a": {"role": "king"}}}', "\ud800"])
def test_another_text_holds_no_keys(text):
    with pytest.raises(Malformed):
        decode_api_keys(text)


def test_a_key_ends_at_its_instant():
    keys, token = with_key(expires_at=NOW + 5)
    assert keys.find(token, NOW + 4) is not None
    assert keys.find(token, NOW + 5) is None


def test_a_revoked_key_is_found_no_more():
    keys, token = with_key()
    keys, other = keys.with_new("till", Role.APP, NOW, None)
    keys = keys.without("shop", last=False)
    assert keys.find(token, NOW) is None
    assert keys.find(other, NOW) is not None


def test_the_last_key_is_revoked_only_when_that_is_meant():
    keys, _ = with_key()
    with pytest.raises(InvalidApiKey, match="the last key"):
        keys.without("shop", last=False)
    assert not keys.without("shop", last=True)


def test_after_a_rotation_both_tokens_are_valid_until_the_overlap_ends():
    keys, first = with_key()
    keys, second = keys.with_another_token("shop", NOW, NOW + 10)
    assert keys.find(first, NOW + 9) == keys.find(second, NOW + 9) == SHOP
    assert keys.find(first, NOW + 10) is None
    assert keys.find(second, NOW + 10) is not None


def test_a_second_rotation_gives_no_token_more_time():
    keys, first = with_key()
    keys, _ = keys.with_another_token("shop", NOW, NOW + 10)
    keys, _ = keys.with_another_token("shop", NOW + 1, NOW + 1_000)
    assert keys.find(first, NOW + 10) is None


def test_a_rotation_makes_no_expired_key_valid():
    keys, _ = with_key(expires_at=NOW + 5)
    with pytest.raises(InvalidApiKey, match="expired"):
        keys.with_another_token("shop", NOW + 5, NOW + 10)
    keys, second = keys.with_another_token("shop", NOW, NOW + 10)
    assert keys.find(second, NOW + 5) is None


def test_a_key_has_a_few_valid_tokens_at_most():
    keys, _ = with_key()
    for _ in range(TOKENS_MAX - 1):
        keys, _ = keys.with_another_token("shop", NOW, NOW + 10)
    keys, _ = keys.with_another_token("shop", NOW + 10, NOW + 20)  # those from before are over
    keys, token = keys.with_another_token("shop", NOW + 10, NOW + 10)
    assert len(keys.keys["shop"].tokens) <= TOKENS_MAX
    for _ in range(TOKENS_MAX - 1):
        keys, _ = keys.with_another_token("shop", NOW + 10, NOW + 20)
    with pytest.raises(InvalidApiKey, match="valid already"):
        keys.with_another_token("shop", NOW + 10, NOW + 20)
    assert keys.find(token, NOW + 15) is not None


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "-a", "ä", "a" * 65, "a/b", "a\0"])
def test_a_name_is_one_that_fits_everywhere(name):
    with pytest.raises(InvalidApiKey, match="is no name"):
        EMPTY.with_new(name, Role.APP, NOW, None)


def test_a_name_belongs_to_one_key():
    keys, _ = with_key()
    with pytest.raises(InvalidApiKey, match="already"):
        keys.with_new("shop", Role.ADMIN, NOW, None)


def test_of_a_name_without_a_key_nothing_can_be_done():
    with pytest.raises(InvalidApiKey, match="no key 'shop'"):
        EMPTY.without("shop", last=True)
    with pytest.raises(InvalidApiKey, match="no key 'shop'"):
        EMPTY.with_another_token("shop", NOW, NOW)


def test_as_many_keys_as_may_be_fit_into_a_record():
    from coupon.ports.store import BODY_BYTES

    key = with_key(expires_at=NOW**2)[0].keys["shop"]
    whole = type(key)(role=Role.OPERATOR, created_at=NOW**2, expires_at=NOW**2, tokens=key.tokens * TOKENS_MAX)
    keys = {f"{number:064d}": whole for number in range(KEYS_MAX)}
    assert len(ApiKeys(keys).encoded().encode()) <= BODY_BYTES
    with pytest.raises(InvalidApiKey, match="the most"):
        ApiKeys(keys).with_new("one-more", Role.APP, NOW, None)
