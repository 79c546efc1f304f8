"""Every guard is where ``make mutants`` takes it out: whoever moves one says so there."""

import pytest

from tests.proof.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.guard for mutant in MUTANTS])
def test_a_guard_is_found_by_its_text_once(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.text) == 1
    file, _, name = mutant.test.partition("::")
    assert not name or f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
