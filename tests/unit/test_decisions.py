"""Each decision is linked from the code that it explains, as ``(decision 16)``."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = {int(page.name[:4]): page.read_text() for page in (ROOT / "docs" / "decisions").glob("0*.md")}
SOURCES = [file for part in ("coupon", "backends", "conf") for file in (ROOT / part).rglob("*.py")]
LINK = re.compile(r"\bdecisions?\s+(\d+)(?:\s+and\s+(\d+))?")
LINKED = {int(number) for file in SOURCES for pair in LINK.findall(file.read_text()) for number in pair if number}


@pytest.mark.parametrize("number", sorted(DECISIONS))
def test_a_decision_is_linked_from_its_code_or_says_which_one_replaced_it(number):
    assert number in LINKED or "Superseded by [decision " in DECISIONS[number]


def test_a_link_leads_to_a_decision():
    assert LINKED - set(DECISIONS) == set()


def test_links_are_written_in_one_way():
    assert [file.name for file in SOURCES if "docs/decisions" in file.read_text()] == []
