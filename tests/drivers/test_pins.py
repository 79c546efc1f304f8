"""What is installed: every driver that we patch in one version only, and everything by its hash."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PATCHED = [
    "kafka-python",
    "gunicorn",
    "python-memcached",
    "pynamodb",
    "botocore",
    "urllib3",
    "elastic-transport",
    "redis",
]
EXTRAS = {
    "constraints.txt": ["jwt", "mongodb", "redis"],
    "constraints-dev.txt": ["dev"],
    "constraints-load.txt": ["dev", "load"],
}


def required(extras: list[str]) -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    direct = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    ours = [each for each in direct if each.name == "coupon"]
    return [each for each in direct if each not in ours] + [
        each for own in ours for each in required(sorted(own.extras))
    ]


def lines_of(constraints: str) -> list[tuple[str, str]]:
    """Names and versions of what has hashes; a name is there twice where versions of Python differ."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+).*((?:\n    --hash.*)+)", (ROOT / constraints).read_text(), re.MULTILINE)
    return [(canonicalize_name(name), version) for name, version, _ in found]


def pinned(constraints: str) -> dict[str, str]:
    return dict(lines_of(constraints))


@pytest.mark.parametrize("driver", PATCHED)
def test_a_patched_driver_has_one_version(driver: str) -> None:
    (requirement,) = [each for each in required(["redis"]) if each.name == driver]
    assert str(requirement.specifier).startswith("==")


@pytest.mark.parametrize("constraints", EXTRAS)
def test_the_constraints_are_those_of_setup_cfg(constraints: str) -> None:
    """Who changes ``setup.cfg`` renews them: ``make constraints``."""
    versions = pinned(constraints)
    for requirement in required(EXTRAS[constraints]):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{constraints} has {requirement.name} {version}"


@pytest.mark.parametrize(
    ("less", "more"), [("constraints.txt", "constraints-dev.txt"), ("constraints-dev.txt", "constraints-load.txt")]
)
def test_each_of_the_constraints_holds_all_of_the_one_before(less: str, more: str) -> None:
    assert pinned(less).items() <= pinned(more).items()


@pytest.mark.parametrize("constraints", EXTRAS)
def test_everything_in_the_constraints_has_hashes(constraints: str) -> None:
    lines = [line for line in (ROOT / constraints).read_text().splitlines() if re.match(r"[\w.-]+==", line)]
    assert len(lines_of(constraints)) == len(lines)
