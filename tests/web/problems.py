"""What every refusal looks like."""

from typing import Any

from werkzeug.test import TestResponse

from coupon.web.problems import TITLES


def problem(response: TestResponse) -> dict[str, Any]:
    """The problem that the response tells of, which is well-formed."""
    assert response.mimetype == "application/problem+json", response.text
    told: dict[str, Any] = response.get_json(force=True)
    assert set(told) >= {"type", "title", "status", "code"}
    assert told["status"] == response.status_code
    assert TITLES[told["code"]] == (told["status"], told["title"])
    assert told["type"] == f"/docs/problems#{told['code']}"
    if response.status_code == 503:
        assert int(response.headers["Retry-After"]) >= 1
    return told


def refused(response: TestResponse) -> tuple[int, str]:
    """Its status and code."""
    told = problem(response)
    return told["status"], told["code"]


def wrong_fields(response: TestResponse) -> set[str]:
    """The fields that were wrong."""
    told = problem(response)
    assert (told["status"], told["code"]) == (422, "INVALID_FIELD")
    assert all(isinstance(sentence, str) for said in told["errors"].values() for sentence in said)
    return set(told["errors"])
