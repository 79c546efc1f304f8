"""No test reaches into a private attribute of ours, and no file of tests is long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 400
SUITES = ROOT / "backends" / "testing"
TESTS = sorted([*ROOT.glob("tests/**/*.py"), *SUITES.rglob("*.py")])
OURS = [file for part in ("coupon", "backends") for file in (ROOT / part).rglob("*.py") if SUITES not in file.parents]
OF_NAMED_TUPLES = ("_asdict", "_fields", "_make", "_replace")
"""These are public, whatever they begin with."""
PATCHES = ("setattr", "getattr", "delattr", "patch")


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in ("_", *OF_NAMED_TUPLES)


def defined(tree):
    """The private names that a module, its classes and their methods define."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return {name for name in names if is_private(name)}


def reached(source, private):
    """The private names that the source takes from elsewhere, each with its line. A class may use those of its own."""
    tree = ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = set().union(*map(defined, classes))
    inside = {id(node) for each in classes for node in ast.walk(each)}
    found = [
        (node.lineno, name)
        for node in ast.walk(tree)
        for name in taken(node)
        if name in private and not (isinstance(node, ast.Attribute) and id(node) in inside and name in own)
    ]
    return [f"{line}: {name}" for line, name in sorted(found)]


def taken(node):
    """The names that an expression takes from an object, from one of our modules, or by a text that names them."""
    match node:
        case ast.Attribute():
            return [node.attr]
        case ast.ImportFrom():
            return [alias.name for alias in node.names]
        case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=args) if called in PATCHES:
            texts = [arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            return [text.rpartition(".")[2] for text in texts]
    return []


PRIVATE = set().union(*(defined(ast.parse(file.read_text())) for file in OURS))


def test_no_file_of_tests_has_more_than_400_lines():
    assert [str(file.relative_to(ROOT)) for file in TESTS if file.read_text().count("\n") > LINES_MAX] == []


def test_no_test_reaches_into_a_private_attribute_of_ours():
    found = {str(file.relative_to(ROOT)): reached(file.read_text(), PRIVATE) for file in TESTS}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "worker._step.run(part)",
        "from coupon.worker.worker import _step",
        "monkeypatch.setattr(worker, '_step', None)",
        "monkeypatch.setattr('coupon.worker.worker._step', None)",
        "class Watched(Worker):\n    def step(self):\n        return self._step",
        "class Mine:\n    def __init__(self):\n        self._step = 1\nworker._step",
    ],
)
def test_a_private_name_of_ours_is_found(source):
    assert "_step" in PRIVATE
    assert [each.partition(": ")[2] for each in reached(source, PRIVATE)] == ["_step"]


@pytest.mark.parametrize(
    "source",
    [
        "class Mine:\n    def __init__(self, other):\n        self._step = other._step",
        "coupon._replace(code='A')",
        "worker.step",
        "_step = 1",
    ],
)
def test_what_is_a_test_s_own_or_public_is_not(source):
    assert reached(source, PRIVATE) == []
