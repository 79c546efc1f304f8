import pytest
import structlog
from structlog.testing import capture_logs

from coupon.runtime import logs
from coupon.web import problems
from tests.web.problems import problem, refused


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/coupons/",
        "/v1//coupons/expired/today",
        "/nothing",
        "/v1/users//coupons",
        "/%00",
        "/%ff",
    ],
)
def test_an_unknown_address_is_not_found(api, path):
    assert refused(api.get(path)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["//livez", "//v1/coupons/issue", "//evil.example/docs"])
def test_an_address_that_begins_with_two_slashes_is_not_found(api, path):
    """A gateway has rules for exact paths, so no other path may lead to the same view."""
    assert refused(api.client.open("/", environ_overrides={"PATH_INFO": path})) == (404, "NOT_FOUND")


@pytest.mark.parametrize("host", ["localhost", "example.com:8080", "[::1]", "", "a b", "\xe9", "A.com.", "x" * 64])
def test_an_address_is_the_same_at_any_host(api, host):
    assert api.client.get("/livez", environ_overrides={"HTTP_HOST": host}).status_code == 200


def test_the_wish_for_a_web_socket_is_ignored(api):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert api.client.get("/livez", headers=headers).status_code == 200


def test_an_address_that_is_no_utf_8_is_nobodys(api):
    path = "/v1/users/\xff\xfe/coupons"  # as a server gives it: a character for each byte
    assert refused(api.client.open("/", environ_overrides={"PATH_INFO": path})) == (404, "NOT_FOUND")
    path = "/v1/users/\ufffd/coupons".encode().decode("latin-1")
    assert api.client.open("/", environ_overrides={"PATH_INFO": path}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/coupons", {"POST", "OPTIONS"}),
        ("DELETE", "/v1/coupons/issue", {"PUT", "GET", "HEAD", "OPTIONS"}),
        ("POST", "/livez", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/docs", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_another_method_is_told_which_are_allowed(api, method, path, allowed):
    answer = api.client.open(path, method=method)
    assert refused(answer) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.logs_error("unexpected error")
def test_a_bug_is_told_without_its_details_and_logged_with_them(api, backends, monkeypatch):
    def buggy(codes):
        raise ZeroDivisionError("the secret of the bug")

    monkeypatch.setattr(backends.store, "get_many", buggy)
    monkeypatch.setattr(problems, "log", structlog.get_logger())
    with capture_logs() as lines:
        answer = api.get("/v1/coupons/AAAAA-AAAAAA-AAAAAAAA")
    assert refused(answer) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text
    (line,) = lines
    assert (line["log_level"], str(line["exc_info"])) == ("error", "the secret of the bug")


def test_a_request_is_followed_by_its_id(api, backends, monkeypatch):
    seen = []
    monkeypatch.setattr(backends.store, "get_many", lambda _: seen.append(logs.request_id.get()) or {})
    for sent, followed in (("r-1", "r-1"), ("two words", None), ("x" * 129, None), (None, None)):
        answer = api.client.get("/v1/coupons/" + "A" * 19, headers={"X-Request-Id": sent} if sent else {})
        assert answer.headers.get("X-Request-Id") == followed
        assert seen.pop() == followed
    assert logs.request_id.get() is None


def test_a_head_request_has_no_body(api, code):
    answer = api.client.head(f"/v1/coupons/{code}")
    assert (answer.status_code, answer.data) == (200, b"")


def test_a_problem_says_where_its_code_is_explained(api):
    page, _, code = problem(api.get("/nothing"))["type"].partition("#")
    assert f'id="{code}"' in api.get(page).text
