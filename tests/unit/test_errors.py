"""coupon/domain/errors.py has every error that crosses a module, and draws the tree of them."""

import ast
import re
from pathlib import Path

from coupon.domain import errors

ROOT = Path(__file__).parents[2]
OF_HTTP = {"Problem"}
"""Answers of HTTP, and no errors of the application."""
DEFINED = [found for found in vars(errors).values() if isinstance(found, type)]


def drawn():
    """Each name of the tree, and the name that it hangs on."""
    parents = [""]
    for branch, name in re.findall(r"^\| *\w* *\| ([ │├└─]*)(\w+) ", errors.__doc__, re.MULTILINE):
        depth = len(branch) // 4
        del parents[depth + 1 :]
        if name != "error":
            yield name, parents[depth]
            parents.append(name)


def test_the_tree_has_every_error_below_the_one_that_it_is_derived_from():
    bases = {error.__name__: error.__base__.__name__ for error in DEFINED}
    tree = {name: parent or "Exception" for name, parent in drawn() if name != "ValueError"}
    assert tree == bases


def test_no_error_is_defined_elsewhere():
    elsewhere = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for file in (ROOT / "coupon").rglob("*.py")
        if file != Path(errors.__file__)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name not in OF_HTTP
        if {"Exception", "ValueError"} & {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]
    assert elsewhere == []
