"""What every refusal looks like."""

from typing import Any

from werkzeug.test import TestResponse

from coupon.web.problems import TITLES


def problem(response: TestResponse) -> dict[str, Any]:
    """The problem that the response tells of, which is well-formed."""
    assert response.mimetype == "application/problem+json", response.text
    body: dict[str, Any] = response.get_json(force=True)
    assert set(body) >= {"type", "title", "status", "code"}
    assert body["status"] == response.status_code
    assert TITLES[body["code"]] == (body["status"], body["title"])
    assert body["type"] == f"/docs/problems#{body['code']}"
    if response.status_code == 503:
        assert int(response.headers["Retry-After"]) >= 1
    return body


def refused(response: TestResponse) -> tuple[int, str]:
    """Its status and code."""
    body = problem(response)
    return body["status"], body["code"]


def wrong_fields(response: TestResponse) -> set[str]:
    """The fields that were wrong."""
    body = problem(response)
    assert (body["status"], body["code"]) == (422, "INVALID_FIELD")
    assert all(isinstance(sentence, str) for sentences in body["errors"].values() for sentence in sentences)
    return set(body["errors"])
