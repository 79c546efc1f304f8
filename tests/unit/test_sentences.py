"""A sentence has at most 25 words: in docstrings and in pages, but for as many as there are still."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS_MAX = 25
LONG = {
    "coupon/acceptance": 0,
    "coupon/applying": 0,
    "coupon/bulk": 0,
    "coupon/cli": 0,
    "coupon/domain": 0,
    "coupon/ports": 0,
    "coupon/runtime": 0,
    "coupon/web": 0,
    "coupon/web/templates/overview.md": 0,
    "coupon/worker": 0,
    "backends": 0,
    "tests": 0,
    "README.md": 0,
    "CONTRIBUTING.md": 0,
    "SECURITY.md": 0,
    "docs/architecture.md": 0,
    "docs/backends.md": 0,
    "docs/glossary.md": 0,
    "docs/operations.md": 0,
    "docs/settings.md": 0,
    "docs/performance.md": 0,
    "docs/reliability.md": 0,
    "docs/scale.md": 0,
}
"""How many sentences of a part are longer. A number may shrink, and never grow."""


def long_sentences(part):
    """``file: sentence`` of each that is too long."""
    path = ROOT / part
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [
        f"{file.relative_to(ROOT)}: {sentence}"
        for file in files
        for text in ([prose(file.read_text())] if file.suffix == ".md" else docstrings(file.read_text()))
        for sentence in sentences(text)
        if len(words(sentence)) > WORDS_MAX
    ]


def docstrings(source):
    """Of modules, classes, functions and constants."""
    for node in ast.walk(ast.parse(source)):
        for statement in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield str(statement.value.value)


def prose(page):
    """The page without blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page, flags=re.MULTILINE | re.DOTALL)


def sentences(text):
    """Of a text; each cell of a table, item of a list and paragraph begins a new one. Code counts as a word."""
    text = re.sub(r"(`+)[^`\n]+\1", "`code`", text)
    text = re.sub(r"^\s*(\|.*\||>>>.*|[-:| ]+)$", lambda line: line[0].replace("|", "\n\n"), text, flags=re.MULTILINE)
    text = re.sub(r"\n(?=\s*([-*]|\d+\.) )", "\n\n", text)
    paragraphs = re.split(r"\n\s*\n|::\n", text)
    return [part for paragraph in paragraphs for part in re.split(r"[.!?][)*`]*\s+(?=[A-Z`*([])", paragraph)]


def words(sentence):
    """A link counts by its text, and the number of a decision not at all."""
    sentence = re.sub(r"\]\([^)]*\)|\(decisions? [^)]*\)", "", sentence)
    return re.findall(r"\w[\w'’.,/×%-]*", sentence)


@pytest.mark.parametrize("part", LONG)
def test_no_sentence_is_longer_than_25_words(part):
    found = long_sentences(part)
    assert len(found) <= LONG[part], "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two.\nStill two.", 3),
        ("A row:\n\n| one | two |\n| --- | --- |\n| three | four |", 5),
        ("- one\n- two", 2),
        ("``a. B`` and 1.5 s, see `x.Y`", 1),
    ],
)
def test_sentences_are_told_apart(text, count):
    assert len([part for part in sentences(text) if words(part)]) == count
