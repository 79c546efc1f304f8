"""The reasons of dead letters are those of the table in docs/operations.md."""

import json
import re
from pathlib import Path

import pytest

from coupon.applying import dead_letters
from coupon.domain.errors import Malformed, fault
from coupon.domain.model import Kind
from coupon.domain.serialization import decode_codes, decode_command, encode_command
from coupon.ports.queue import Message
from coupon.runtime.signed_queue import NOT_SIGNED, UNKNOWN, WRONG
from coupon.worker.change_handler import FOLLOWS, LATE, NO_COUPON
from coupon.worker.creation_handler import OTHER_SECRET
from tests.coupons import a_command, a_creation

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
SECTION = PAGE[PAGE.index("### Dead letters") : PAGE.index("### Forged messages")]
ROWS = [re.findall(r"`([^`]+)`", row) for row in re.findall(r"^\| (`.+?) \|", SECTION, re.MULTILINE)]


def with_field(command, **fields):
    return json.dumps(json.loads(encode_command(command)) | fields).encode()


MALFORMED = {
    "no JSON": b"garbage",
    "half of it": b"{",
    "no text": b"\xff",
    "no object": b"[]",
    "another kind": b'{"kind": "burn"}',
    "no kind": b"{}",
    "a wrong type": with_field(a_command(Kind.USE, "u"), code=5),
    "beyond a bound": with_field(a_creation(), size=0),
    "no code": with_field(a_command(Kind.USE, "u"), code="short"),
    "no day": with_field(a_command(Kind.USE, "u"), day="2026-02-30"),
    "to nobody": with_field(a_command(Kind.ISSUE, "i"), user_id=None),
    "too many codes": with_field(a_creation(), codes=["A" * 19, "B" * 19]),
    "beyond the last index": with_field(a_creation(), first=999_999_999, size=500),
}


def reason(decode, data):
    with pytest.raises(Malformed) as refused:
        decode(data)
    return str(refused.value)


def rows_of(text):
    """The rows of the table that tell of a reason."""
    return [row for row in ROWS if any(re.match(re.escape(each).replace("…", ".*"), text) for each in row)]


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_the_reason_of_a_message_that_is_none_is_in_the_table(data):
    assert len(rows_of(reason(decode_command, data))) == 1


def test_the_other_reasons_are_there_too_and_the_table_has_no_more():
    others = [
        reason(decode_codes, b'{"a": 1}'),
        NO_COUPON.reason,
        FOLLOWS.reason,
        LATE.reason,
        OTHER_SECRET.format("x" * 10),
        fault("A" * 19, "version is 0"),
        NOT_SIGNED,
        WRONG,
        UNKNOWN.format("5f3a9c01"),
    ]
    texts = [*others, *(reason(decode_command, data) for data in MALFORMED.values())]
    assert [text for text in texts if len(rows_of(text)) != 1] == []
    told = [each for row in ROWS for each in row]
    unused = [each for each in told if not any(re.match(re.escape(each).replace("…", ".*"), text) for text in texts)]
    assert unused == []


@pytest.mark.logs_error("dead letter")
def test_the_list_on_the_page_is_what_is_listed(world):
    world.backends.queue.publish([Message("commands", "k", b"\0")])
    world.drain()
    (letter,) = dead_letters.browse(world.backends.queue)
    assert f"  {letter.reason}\n" in SECTION
