"""Which private names of drivers our code uses, found by reading it.

A line counts if it has
- an attribute that begins with an underscore, and that none of our classes defines,
- a name that is imported from a module which its driver does not document, or that import itself,
- the definition of a method that replaces one of a class from such a module, or one that begins with an underscore.
"""

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DRIVERS = (
    "kafka",
    "memcache",
    "botocore",
    "pynamodb",
    "urllib3",
    "elastic_transport",
    "elasticsearch",
    "gunicorn",
    "redis",
)
UNDOCUMENTED = (
    "kafka.consumer.",
    "kafka.coordinator.",
    "kafka.net",
    "kafka.protocol.",
    "kafka.record.",
    "kafka.structs",
    "botocore.awsrequest",
    "botocore.httpsession",
    "elastic_transport._",
    "gunicorn.http.",
    "gunicorn.workers.",
    "gunicorn.util",
    "gunicorn.sock",
)
OF_PYTHON = {"_field_defaults", "_getframe", "_replace", "_asdict", "_fields", "_make", "_exit"}


def files() -> list[Path]:
    return [path for folder in ("backends", "coupon") for path in sorted((ROOT / folder).rglob("*.py"))]


def uses() -> dict[str, set[tuple[str, int]]]:
    """Each private name, with the lines that use it."""
    trees = {path: ast.parse(path.read_text()) for path in files()}
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for path, tree in trees.items():
        replaced = dict(_replaced(path)) if _imports_driver(tree) else {}
        ours = ({*_defined(tree)} | OF_PYTHON) - {*replaced.values()}
        for name, line in [*_attributes(tree, ours), *_imported(tree), *_definitions(tree, replaced)]:
            found[name].add((str(path.relative_to(ROOT)), line))
    return found


def _defined(tree: ast.AST) -> Iterator[str]:
    """Names that begin with an underscore, and that our code gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=names)):
                yield from (str(ast.literal_eval(name)) for name in names)


def _attributes(tree: ast.AST, ours: set[str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
            if name.startswith("_") and not name.startswith("__") and name not in ours:
                yield name, node.end_lineno or node.lineno


def _imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(UNDOCUMENTED):
            names |= {alias.asname or alias.name for alias in node.names}
            yield from ((alias.name, alias.lineno) for alias in node.names)
    yield from ((node.id, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names)


def _definitions(tree: ast.AST, replaced: dict[tuple[str, str], str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                name = getattr(inner, "name", "")
                if (node.name, name) in replaced:
                    yield name, inner.lineno


def _imports_driver(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(module.partition(".")[0] in DRIVERS or module in _BETWEEN for module in modules):
            return True
    return False


_BETWEEN = {"coupon.web.parked_connections"}
"""Ours, and what is derived from it derives from a driver's class."""


def _replaced(path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Class and name of each method or attribute of ours that is in the place of a private one."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for ours in vars(module).values():
        if isinstance(ours, type) and ours.__module__ == module.__name__:
            for base in ours.__mro__[1:]:
                if base.__module__.partition(".")[0] in DRIVERS:
                    names = {name for name in vars(ours) if not name.startswith("__") and _is_private(base, name)}
                    names |= _attributes_of(base)
                    yield from (((ours.__name__, name), name) for name in names)


def _attributes_of(base: type) -> set[str]:
    """The private attributes that its methods set."""
    try:
        return set(re.findall(r"\bself\.(_[a-z]\w*) = ", inspect.getsource(base)))
    except (OSError, TypeError):  # made by a factory
        return set()


def _is_private(base: type, name: str) -> bool:
    if base.__module__.partition(".")[0] not in DRIVERS or name not in vars(base):
        return False
    if base.__module__.startswith("kafka.") and base.__name__ in vars(importlib.import_module("kafka")):
        return False
    return name.startswith("_") or base.__name__.startswith("_") or base.__module__.startswith(UNDOCUMENTED)


def exists(target: str) -> bool:
    """``module:name.name``, of which the last may be what the methods of a class set."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    *owners, last = path.split(".")
    for name in owners:
        found = getattr(found, name)
    return hasattr(found, last) or any(
        re.search(rf"\bself\.{last} = ", inspect.getsource(base)) for base in _bases(found)
    )


def _bases(found: Any) -> tuple[type, ...]:
    return tuple(base for base in getattr(found, "__mro__", ()) if base is not object)
