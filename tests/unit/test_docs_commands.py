"""Code that the pages show works: Python runs, and commands, options and targets exist."""

import re
import textwrap
from pathlib import Path

import click
import pytest

from coupon.cli import coupon

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:coupon|make) [^`\n]+)`")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(*languages):
    found = [
        (page.name, textwrap.dedent(code))
        for page in PAGES
        for _, language, code in BLOCK.findall(page.read_text())
        if language in languages
    ]
    return [pytest.param(code, id=f"{page}-{number}") for number, (page, code) in enumerate(found)]


def commands(text):
    """Each `coupon …` and `make …` of some lines of shell, as words, without variables, prompts and comments."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"[|;&]+ | > | < ", re.sub(r"(^|\s)#.*", "", line)):
            words = re.sub(r"^\$ |\.venv/bin/", "", part.strip()).split()
            while words and ("=" in words[0] or words[0] in ("timeout", "nohup") or words[0].isdecimal()):
                words.pop(0)
            if words and words[0] in ("coupon", "make"):
                yield words


def fault(words):
    """Why a command cannot be run; None when it can."""
    if words[0] == "make":
        targets = [word for word in words[1:] if re.fullmatch("[a-z-]+", word)]
        return next((f"no target {target}" for target in targets[:1] if target not in TARGETS), None)
    command, rest = coupon, words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        command = command.get_command(click.Context(command), name)
        if command is None:
            return f"no command {name}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    options = [word.split("=")[0] for word in rest if word.startswith("--")]
    return next((f"no option {option}" for option in options if option not in known), None)


@pytest.mark.parametrize("code", blocks("python"))
def test_a_block_of_python_runs(code):
    exec(compile(code, "a page", "exec"), {"__name__": "a_page"})


@pytest.mark.parametrize("code", [param for param in blocks("sh", "console") if list(commands(param.values[0]))])
def test_every_command_in_a_block_of_shell_exists(code):
    assert [(words, fault(words)) for words in commands(code) if fault(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_sentence_exists(page):
    named = [words for text in INLINE.findall(page.read_text()) for words in commands(text)]
    assert [(words, fault(words)) for words in named if fault(words)] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("coupon lagg", "no command lagg"),
        ("coupon dead-letters burn x", "no command burn"),
        ("COUPON_CONF=x coupon restore --backup 1", "no option --backup"),
        ("make walk", "no target walk"),
        ("$ .venv/bin/coupon import --no-wait rows.csv", None),
        ("make bench ARGS='cpu taking'", None),
    ],
)
def test_a_command_that_does_not_exist_is_found(line, expected):
    assert [fault(words) for words in commands(line)] == [expected]
