import re

import pytest

from coupon.web.problems import TITLES

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
    answer = api.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")


def test_a_browser_finds_the_icon_that_it_asks_for(api):
    with api.get("/favicon.ico") as answer:
        assert (answer.status_code, answer.mimetype) == (200, "image/png")
