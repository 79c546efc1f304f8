"""Every guard is where ``make mutants`` takes it out: whoever moves one says so there."""

from pathlib import Path

import pytest

from tests.proof.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_a_guard_is_found_by_its_text_once(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.text) == 1
    file, _, name = mutant.test.partition("::")
    assert not name or f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_the_page_tells_what_finds_a_guard_that_is_taken_out(mutant):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {mutant.guard} | ")]
    file, _, name = mutant.test.partition("::")
    assert row.endswith(f"| `{name or file}` |") if mutant.test else "| seed " in row


def test_each_guard_is_taken_out_once_and_has_a_name_of_its_own():
    assert len({mutant.guard for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.text, mutant.other) for mutant in MUTANTS}) == len(MUTANTS)
