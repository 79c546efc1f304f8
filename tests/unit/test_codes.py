import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coupon.domain.codes import CodeDeriver, parse, show
from coupon.domain.errors import InvalidCode

CODE_DERIVER = CodeDeriver("a secret of some length")


def test_a_code_is_19_letters_and_digits_and_the_same_each_time():
    codes = list(CODE_DERIVER.codes("op", 0, 1000))
    assert all(re.fullmatch(r"[A-Z0-9]{19}", code) for code in codes)
    assert len(set(codes)) == 1000
    assert list(CODE_DERIVER.codes("op", 500, 500)) == codes[500:]


def test_another_secret_or_operation_makes_other_codes():
    code = next(CODE_DERIVER.codes("op", 0, 1))
    assert code != next(CODE_DERIVER.codes("op2", 0, 1))
    assert code != next(CodeDeriver("another secret, too").codes("op", 0, 1))


def test_every_letter_is_about_equally_frequent():
    characters = "".join(CODE_DERIVER.codes("op", 0, 5000))
    expected = len(characters) / 36
    assert all(0.9 * expected < characters.count(letter) < 1.1 * expected for letter in set(characters))
    assert len(set(characters)) == 36


def test_a_code_is_shown_with_dashes_and_read_in_any_form():
    shown = show("ABCDE1234567890WXYZ"[:19])
    assert shown == "ABCDE-123456-7890WXYZ"
    assert parse(shown) == parse(f"  {shown.lower()} ") == parse("abcde1234567890wxyz") == "ABCDE1234567890WXYZ"


@pytest.mark.parametrize(
    "text", ["", "A" * 18, "A" * 20, "A" * 18 + "!", "ABCDE-123456-7890WXY", "Ä" * 19, "ı" * 19, "A" * 18 + "\0"]
)
def test_what_is_no_code_is_refused_with_a_reason(text):
    with pytest.raises(InvalidCode, match="a code "):
        parse(text)


@pytest.mark.parametrize("dash", "–—−‑‐\u00ad\u2003\u00a0\u200b\u200d\u2060\ufeff\t ")
def test_dashes_blanks_and_characters_without_a_width_of_any_kind_are_no_part_of_a_code(dash):
    written = dash.join(["", "ABCDE", "123456", "7890WXYZ", ""])
    assert parse(written) == parse(f"{dash}{written.lower()}") == "ABCDE1234567890WXYZ"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ABCDE_123456_7890WXYZ", "holds '_'"),
        ("ABCDE–123456–7890WXYÄ", "holds 'Ä'"),
        ("ABCDE1234567890WXYZ\0", r"holds '\\x00'"),
        ("ABCDE–123456–7890WXY", "this one has 18"),
        ("\u200b", "this one has 0"),
        ("１BCDE1234567890WXYZ", "holds '１'"),
    ],
)
def test_what_is_wrong_with_a_code_is_named_before_it_is_counted(text, words):
    with pytest.raises(InvalidCode, match=words):
        parse(text)


@given(st.text(max_size=25))
def test_reading_a_code_gives_a_code_or_the_one_error(text):
    with contextlib.suppress(InvalidCode):
        assert re.fullmatch(r"[A-Z0-9]{19}", parse(text))


def test_an_idempotency_key_makes_the_same_operation_for_the_same_caller_only():
    operation = CODE_DERIVER.operation("shop", "key")
    assert re.fullmatch(r"[a-z0-9]{20}", operation)
    assert CODE_DERIVER.operation("shop", "key") == operation
    assert CODE_DERIVER.operation("other", "key") != operation
    assert CODE_DERIVER.operation("shop", None) != CODE_DERIVER.operation("shop", None)


def test_a_signature_depends_on_the_secret():
    assert CODE_DERIVER.sign("text") != CodeDeriver("another secret, too").sign("text")
