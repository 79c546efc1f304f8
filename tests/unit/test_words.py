"""The words of the code are those of docs/glossary.md: what was called otherwise once is not called so again."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABANDONED = [
    r"carr(y|ies|ied|ying)[\s_-]+((it|them|this|that|what|all|each|one)[\s_]+)?out\b",
    r"put(s|ting)?[\s_]+([a-z]+[\s_]+)?aside",
    r"(left|la(id|ys?))[\s_]+aside",
    r"(?<!begin )\banew\b",
    r"\bin[\s_]+hand\b",
    r"held[\s_]+against",
    r"\bgo(es)?[\s_]+round\b",
    r"los(t|es?)[\s_]+sight",
    r"for[\s_]+ever\b",
    r"taken[\s_]+for[\s_]+dead",
    r"\bMint\b",
    r"\bmint=",
    r"\bGivingUp\b",
    r"\bBusy\b",
    r"\bLinger",
    r"\bPromptSocket\b",
    r"\bLoudClient\b",
    r"\bPatientCoordinator\b",
    r"\bResumingFetcher\b",
    r"\bSharedReads\b",
    r"\bHoldings\b",
    r"\b(Change|Creation)Address\b",
    r"\bStanding\b",
    r"\bcreate_given\b",
    r"\bwhile_away\b",
    r"\bowe\(",
    r"\bsuspects\b",
    r"\bFORGOTTEN\b",
    r"\b[Aa]ilments?\b",
    r"TOLD_WITHIN",
    r"\bIN_PART\b",
    r"\bUNUSABLE\b",
    r"\bSettingsSchema\b",
]
PATTERN, NEWLINE = re.compile("|".join(ABANDONED)), "\n"
READ = ["coupon", "backends", "docs", "tests", "conf", "README.md", "CONTRIBUTING.md", "wsgi.py", "worker.py"]


def texts():
    files = [file for name in READ for file in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))]
    kept = [file for file in files if file.suffix in {".py", ".md", ".env"} and file != Path(__file__)]
    return [file for file in kept if not {"decisions", "data"} & set(file.relative_to(ROOT).parts)]


def test_no_abandoned_word_is_used():
    found = [
        f"{file.relative_to(ROOT)}:{text[: match.start()].count(NEWLINE) + 1}: {match[0]}"
        for file in texts()
        for text in [file.read_text()]
        for match in PATTERN.finditer(text)
    ]
    assert found == []


def test_each_term_of_the_glossary_names_a_file_that_has_it():
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|.*\| `([\w/.]+)`(?: \(`(\w+)`\))? \|$", glossary(), re.MULTILINE)
    assert len(rows) >= 25
    assert [row for row in rows if row[2] not in (ROOT / row[1]).read_text()] == []


def glossary():
    return (ROOT / "docs" / "glossary.md").read_text()


@pytest.mark.parametrize("package", ["tests/bench", "tests/proof/chaos", "tests/proof/simulation"])
def test_what_make_runs_can_be_imported(package):
    for file in (ROOT / package).glob("*.py"):
        if file.stem not in ("__init__", "__main__"):
            import_module(f"{package.replace('/', '.')}.{file.stem}")
    assert (ROOT / package / "__main__.py").is_file()
