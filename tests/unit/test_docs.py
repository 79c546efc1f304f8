"""What docs/ says of settings, backends' options and log events is what the code does."""

import re
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from msgspec.inspect import IntType, LiteralType, StrType, type_info

from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.ports.store import Store
from coupon.ports.url import Url
from coupon.runtime import settings, wiring

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?:`(?P<default>[^`]*)`)?(?P<rest>.*)$", re.MULTILINE)
SECTION = re.compile(r"^### (?P<role>\w+): `(?P<scheme>\w+)://`$(?P<text>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
EVENT = re.compile(r"(?:\blog\.(?:info|warning|error|critical)|\btold)\(\"([^\"]+)\"")
ROLES = {"cache": Cache, "queue": Queue, "store": Store, "search": Search}
PLACES = {"sqlite": "/data/x.db", "memory": ""}
BACKENDS = [(role, scheme) for role, schemes in wiring.BUILT_IN.items() for scheme in schemes]


def test_every_setting_is_in_the_table_and_no_other():
    documented = {row["name"] for row in ROW.finditer(SETTINGS) if row["name"].startswith(settings.PREFIX)}
    assert documented - {"COUPON_CONF"} == {settings.PREFIX + name.upper() for name in settings.TYPES}


@pytest.mark.parametrize("field", fields(settings.Settings), ids=lambda field: field.name)
def test_a_setting_is_told_with_its_default_and_range(field):
    row = next(row for row in ROW.finditer(SETTINGS) if row["name"] == settings.PREFIX + field.name.upper())
    assert row["default"] == (None if field.default in (MISSING, "") else str(field.default))
    match type_info(settings.TYPES[field.name]):
        case IntType(ge=low, le=high):
            assert f"| {low:,} to {high:,} |" in row["rest"]
        case StrType(min_length=int(length)):
            assert f"at least {length} " in row["rest"]
        case LiteralType(values=choices):
            assert [choice for choice in choices if f"`{choice}`" not in row["rest"]] == []


def test_every_backend_has_its_section_and_no_other():
    assert [(section["role"], section["scheme"]) for section in SECTION.finditer(SETTINGS)] == BACKENDS


@pytest.mark.parametrize(("role", "scheme"), BACKENDS)
def test_every_option_of_a_backend_is_told_with_its_default(role, scheme, monkeypatch):
    taken = _options_taken(monkeypatch)
    _open(role, scheme, {})
    assert _told(role, scheme) == {name: _written(default) for name, default in taken.items()}


@pytest.mark.parametrize(("role", "scheme"), BACKENDS)
def test_a_backend_takes_the_defaults_that_are_told(role, scheme):
    _open(role, scheme, _told(role, scheme))


def test_every_event_that_is_logged_is_told_to_the_operator():
    files = ROOT.glob("coupon/**/*.py")
    logged = {event for file in files for event in EVENT.findall(file.read_text())}
    assert {"accepted", "not taken", "dead letter"} <= logged  # so the pattern finds them
    assert [event for event in sorted(logged) if f"`{event}`" not in OPERATIONS] == []


@pytest.mark.parametrize("text", [SETTINGS, OPERATIONS], ids=["settings", "operations"])
def test_every_link_leads_somewhere(text):
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        page = (ROOT / "docs" / file).read_text() if file else text
        assert not anchor or anchor in map(_anchor, re.findall(r"^#+ (.*)$", page, re.MULTILINE)), anchor


def _told(role: str, scheme: str) -> dict[str, str]:
    section = next(it for it in SECTION.finditer(SETTINGS) if (it["role"], it["scheme"]) == (role, scheme))
    return {row["name"]: row["default"] or "" for row in ROW.finditer(section["text"])}


def _open(role: str, scheme: str, options: dict[str, str]) -> None:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    url = f"{scheme}://{PLACES.get(scheme, '127.0.0.1:1')}{'?' if query else ''}{query}"
    wiring.open_backend(ROLES[role], url).close()


def _options_taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Filled with the options, and their defaults, that a backend asks its URL for."""
    taken: dict[str, Any] = {}
    options = Url.options

    def spied(url: Url, **defaults: Any) -> dict[str, Any]:
        taken.update(defaults)
        return options(url, **defaults)

    monkeypatch.setattr(Url, "options", spied)
    return taken


def _written(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_no_page_holds_both_sides_of_a_conflict():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("conf/*")]
    torn = [
        page.name for page in pages if page.is_file() and re.search(r"^(<{7}|>{7}) ", page.read_text(), re.MULTILINE)
    ]
    assert torn == []


def test_every_suite_for_backends_is_named_on_their_page():
    page = (ROOT / "docs" / "backends.md").read_text()
    modules = [import_module(f"backends.testing.{file.stem}") for file in (ROOT / "backends/testing").glob("[a-z]*.py")]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    suites = {each for each in classes if any(name.startswith("test_") for name in dir(each))}
    whole = {f"{each.__module__.removeprefix('backends.testing.')}.{each.__name__}" for each in suites - _bases(suites)}
    assert {"cache.CacheContract", "outages.StoreOutages"} <= whole  # so they are found
    assert [name for name in sorted(whole) if f"`{name}`" not in page] == []


def _bases(classes: set[type]) -> set[type]:
    return {base for each in classes for base in each.__mro__[1:]}
