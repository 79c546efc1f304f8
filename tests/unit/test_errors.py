"""coupon/domain/errors.py draws the tree of the errors, and names those that are defined elsewhere."""

import ast
import builtins
import re
from pathlib import Path

from coupon.domain import errors

ROOT = Path(__file__).parents[2]
DEFINED = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]


def drawn():
    """Each name of the tree, and the name that it hangs on."""
    parents = [""]
    for branch, name in re.findall(r"^\| *\w* *\| ([ │├└─]*)(\w+) ", errors.__doc__, re.MULTILINE):
        depth = len(branch) // 4
        del parents[depth + 1 :]
        if name != "error":
            yield name, parents[depth]
            parents.append(name)


def named():
    """(file, error) of each that the text below the tree names."""
    listed = re.sub(r"\s+", " ", errors.__doc__.partition("defined where they are raised:")[2])
    for names, file in re.findall(r"((?:``\w+``(?: and )?)+) \(``([\w/.]+)``\)", listed):
        yield from ((file, name) for name in re.findall(r"\w+", names.replace(" and ", " ")))


def classes():
    """(file, name, names of bases) of each class in the application and the backends."""
    for room in ("coupon", "backends"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                    yield str(file.relative_to(ROOT)), node.name, bases


def elsewhere():
    """(file, error) of each error that another module defines, however far from Exception it is derived."""
    builtin = {name: found for name, found in vars(builtins).items() if isinstance(found, type)}
    known = {name for name, found in builtin.items() if issubclass(found, BaseException)}
    all_classes, size = list(classes()), 0
    while size != len(known):
        size = len(known)
        known |= {name for _, name, bases in all_classes if bases & known}
    ours = str(Path(errors.__file__).relative_to(ROOT))
    return {(file, name) for file, name, bases in all_classes if bases & known and file != ours and name[0] != "_"}


def test_the_tree_has_every_error_below_the_one_that_it_is_derived_from():
    bases = {error.__name__: error.__base__.__name__ for error in DEFINED}
    tree = {name: parent or "Exception" for name, parent in drawn() if name != "ValueError"}
    assert tree == bases


def test_every_error_that_is_defined_elsewhere_is_named():
    assert set(named()) == elsewhere()
