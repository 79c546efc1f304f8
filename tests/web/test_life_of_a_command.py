"""``docs/architecture.md`` names the files of a command in the order in which it passes them."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| \d \| \[([\w/.]+)\]\(\.\./([\w/.]+)\) \| `([\w.]+)` \|", re.MULTILINE)
STORY = PAGE[PAGE.index("## The life of a command in eight files") : PAGE.index("## Why nothing is lost")]
TABLES = re.split(r"\n(?:A creation of coupons|The list of a user's coupons)", STORY)
ISSUE, CREATION, LIST = (ROW.findall(table) for table in TABLES)


@contextmanager
def passed() -> Iterator[dict[tuple[str, str], None]]:
    """Collects file and name of each function of ours that is called, in the order of the first calls."""
    calls: dict[tuple[str, str], None] = {}

    def called(frame, event, _argument):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(ROOT)):
            calls.setdefault((path[len(str(ROOT)) + 1 :], frame.f_code.co_qualname))

    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def are_passed_in_order(rows, calls):
    order = list(calls)
    return [order.index((file, function)) for file, link, function in rows if file == link] == sorted(
        order.index((file, function)) for file, _, function in rows
    )


def test_an_issue_passes_the_eight_files_in_their_order(api, code, worker):
    assert len({file for file, _, _ in ISSUE}) == len(ISSUE) == 8
    with passed() as calls:
        assert api.issue(code).status_code == 202
        while worker.run_once(poll_s=0):
            pass
    assert are_passed_in_order(ISSUE, calls)


def test_a_creation_passes_its_files_in_their_order(api, worker):
    assert len({file for file, _, _ in CREATION}) == len(CREATION) == 7
    with passed() as calls:
        assert api.create().status_code == 202
        while worker.run_once(poll_s=0):
            pass
    assert are_passed_in_order(CREATION, calls)


def test_a_list_passes_its_files_in_their_order(api, code, drain):
    api.issue(code)
    drain()
    assert len({file for file, _, _ in LIST}) == len(LIST) == 3
    with passed() as calls:
        assert len(api.get("/v1/users/ann/coupons").json["items"]) == 1
    assert are_passed_in_order(LIST, calls)


def test_a_row_in_the_wrong_place_is_noticed(api, code):
    with passed() as calls:
        api.issue(code)
    front, back = ISSUE[0], ISSUE[1]
    assert are_passed_in_order([front, back], calls)
    assert not are_passed_in_order([back, front], calls)


@pytest.mark.parametrize("rows", [ISSUE, CREATION, LIST])
def test_each_link_leads_to_its_file(rows):
    assert [(file, (ROOT / link).is_file()) for file, link, _ in rows] == [(link, True) for _, link, _ in rows]
