import re

import pytest

from coupon.web.descriptions import CANCEL, CANCEL_USE, ISSUE, USE
from coupon.web.openapi import OVERVIEW
from coupon.web.problems import TITLES
from coupon.web.remedies import REMEDIES
from tests.web.problems import refused

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
OUTSIDE = re.compile(r"""(?:https?:)?//[\w.-]+""")


def test_the_page_asks_nobody_outside(api):
    page = api.get("/docs")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert not OUTSIDE.search(page.text)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "http" not in page.headers["Content-Security-Policy"]


def test_all_parts_of_the_page_are_served_here(api):
    page = api.get("/docs").text
    parts = re.findall(r'(?:src|href|data-document)="([^"]+)"', page)
    assert len(parts) == 5
    for part in parts:
        with api.get(part) as answer:
            assert answer.status_code == 200, part
    assert not OUTSIDE.search(api.get("/docs/docs.js").text)


def test_every_code_is_explained(api):
    page = api.get("/docs/problems").text
    assert all(f'id="{code}"' in page for code in TITLES)
    assert not OUTSIDE.search(page)


def test_the_document_tells_of_every_view(app, api):
    document = api.get("/openapi.json").json
    described = {
        (method.upper(), path)
        for path, views in document["paths"].items()
        for method in views
        if method != "parameters"
    }
    pages = {
        "/",
        "/docs/",
        "/favicon.ico",
        "/docs",
        "/docs/docs.js",
        "/docs/problems",
        "/docs/assets/{filename}",
        "/openapi.json",
    }
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {view for view in served if view[1] not in pages} == described


def test_every_error_in_the_document_is_a_problem(api):
    for path, views in api.get("/openapi.json").json["paths"].items():
        success = "text/plain" if path == "/metrics" else "application/json"
        for view in (view for method, view in views.items() if method != "parameters"):
            assert "500" in view["responses"]
            for status, response in view["responses"].items():
                media_type = "application/problem+json" if int(status) >= 400 else success
                assert list(response["content"]) == [media_type]


def test_the_limits_are_in_the_document(api):
    schemas = api.get("/openapi.json").json["components"]["schemas"]
    amount, user_id = schemas["Creation"]["properties"]["amount"], schemas["Issue"]["properties"]["userId"]
    assert (amount["minimum"], amount["maximum"]) == (1, 1_000_000)
    assert (user_id["minLength"], user_id["maxLength"]) == (1, 128)
    assert schemas["Creation"]["additionalProperties"] is False
    assert sorted(schemas["Issue"]["required"]) == ["couponCode", "userId"]


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_a_browser_is_led_to_the_page(api, path):
    answer = api.client.get(path, headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0.5"])
def test_a_program_is_told_that_nothing_is_at_the_root(api, accept):
    answer = api.client.get("/", headers={"Accept": accept} if accept else {})
    assert refused(answer) == (404, "NOT_FOUND")
    assert answer.headers["Vary"] == api.client.get("/", headers={"Accept": BROWSER}).headers["Vary"] == "Accept"


def test_each_problem_is_explained_with_what_to_do(api):
    assert REMEDIES.keys() == TITLES.keys()
    rows = re.findall(r'<tr id="(\w+)">.*?</tr>', api.get("/docs/problems").text, re.DOTALL)
    assert rows == list(TITLES)
    row = re.search(r'<tr id="METHOD_NOT_ALLOWED">.*?</tr>', api.get("/docs/problems").text, re.DOTALL)
    assert "<td>Use a method that the <code>Allow</code> header names.</td>" in row[0]
    assert REMEDIES["EXPIRED"] != REMEDIES["ALREADY_EXPIRED"]


@pytest.mark.parametrize("remedy", REMEDIES.values())
def test_what_to_do_has_its_code_in_backticks_and_ends_as_a_sentence(remedy):
    assert remedy.count("`") % 2 == 0
    assert remedy.endswith(".")


def test_the_life_of_a_coupon_tells_each_refusal_of_a_command():
    rows = re.findall(r"^\| (issue|use|cancel|cancel-use) \|.*\|(.*)\|$", OVERVIEW, re.MULTILINE)
    told = {command: set(re.findall(r"`(\w+)`", codes)) for command, codes in rows}
    described = {"issue": ISSUE, "use": USE, "cancel": CANCEL, "cancel-use": CANCEL_USE}
    after_acceptance = {"RIVAL_WON", "PREDECESSOR_LOST"}
    assert told == {
        command: {code for code in each.problems if TITLES[code][0] == 409} - after_acceptance
        for command, each in described.items()
    }


def test_a_body_of_json_ends_with_a_line_of_its_own(api, code):
    for answer in (api.get(f"/v1/coupons/{code}"), api.get("/v1/coupons/short"), api.get("/openapi.json")):
        assert answer.data.endswith(b"}\n")
        assert int(answer.headers["Content-Length"]) == len(answer.data)
        assert b"\n" not in answer.data[:-1] or answer.request.path == "/openapi.json"


def test_a_browser_finds_the_icon_that_it_asks_for(api):
    with api.get("/favicon.ico") as answer:
        assert (answer.status_code, answer.mimetype) == (200, "image/png")
