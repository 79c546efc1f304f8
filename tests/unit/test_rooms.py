"""The application has at most nine packages, each in the table of docs/architecture.md, and modules keep what is
private to themselves. Which package may import which, import-linter checks."""

import ast
import re

import pytest

from tests.unit.test_of_tests import OURS, PRIVATE, ROOT, defined, reached

APPLICATION = ROOT / "coupon"
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def rooms():
    return {file.parent.name for file in APPLICATION.glob("*/__init__.py")}


def test_the_application_has_at_most_nine_packages_and_no_module_beside_them():
    assert len(rooms()) <= 9
    assert [file.name for file in APPLICATION.glob("*.py")] == ["__init__.py"]


def test_the_page_has_each_package_with_its_purpose():
    table = PAGE[PAGE.index("| package | what it is for |") :].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines()))) == rooms()


@pytest.mark.parametrize("file", OURS, ids=[str(file.relative_to(ROOT)) for file in OURS])
def test_no_module_takes_a_private_name_of_another(file):
    source = file.read_text()
    assert reached(source, PRIVATE - defined(ast.parse(source))) == []
