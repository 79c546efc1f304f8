"""What callers see while a server is unavailable. A memory backend that was closed stands for such a server."""

import pytest

from coupon.domain.errors import BackendRejected, BackendUnavailable
from tests.web.problems import refused

LISTS = ["/v1/coupons/expired/today", "/v1/users/ann/coupons"]


def test_without_search_commands_go_on_and_lists_can_not_be_had(api, code, backends):
    backends.search.close()
    assert api.create().status_code == 202
    assert api.issue(code).status_code == 202
    assert api.get(f"/v1/coupons/{code}").status_code == 200
    for path in LISTS:
        assert refused(api.get(path)) == (503, "UNAVAILABLE")


def test_without_a_cache_nothing_is_refused(api, code, backends, working):
    """The answer comes once it is applied, so that the next command builds on it."""
    backends.cache.close()
    assert api.create().status_code == 202
    for kind in ("issue", "use", "cancel_use", "cancel"):
        answer = getattr(api, kind)(code)
        assert answer.status_code == 202
        assert api.get(answer.headers["Location"]).json["status"] == "applied"
    assert all(api.get(path).status_code == 200 for path in LISTS)


def test_without_a_queue_commands_can_not_be_taken_and_the_rest_can(api, code, backends):
    backends.queue.close()
    assert refused(api.create()) == (503, "UNAVAILABLE")
    assert refused(api.issue(code)) == (503, "UNAVAILABLE")
    assert api.get(f"/v1/coupons/{code}").json["issued"] is False
    assert all(api.get(path).status_code == 200 for path in LISTS)


def test_a_command_that_could_not_be_queued_stands_in_nobodys_way(api, code, drain, backends, monkeypatch):
    with monkeypatch.context() as outage:
        outage.setattr(backends.queue, "publish", lambda messages: refuse_all())
        api.issue(code, "ann", **{"Idempotency-Key": "k1"})
    assert api.issue(code, "ann", **{"Idempotency-Key": "k1"}).status_code == 202
    drain()
    assert api.get(f"/v1/coupons/{code}").json["userId"] == "ann"


@pytest.mark.parametrize("path", ["coupons/{code}", "operations/{operation}"])
def test_without_a_store_nothing_can_be_told(api, code, backends, path):
    operation = api.issue(code).headers["Location"].rpartition("/")[2]
    backends.store.close()
    assert refused(api.get("/v1/" + path.format(code=code, operation=operation))) == (503, "UNAVAILABLE")


def test_without_a_store_a_creation_is_taken_if_it_has_no_key(api, backends):
    """The store knows whether a key was used. The process has asked it who may call, and who signs, before."""
    api.create()
    backends.store.close()
    assert api.create().status_code == 202
    assert refused(api.create(**{"Idempotency-Key": "k1"})) == (503, "UNAVAILABLE")


def test_without_a_store_a_coupon_that_the_cache_knows_can_still_be_changed(api, code, backends):
    api.issue(code)
    backends.store.close()
    assert api.use(code).status_code == 202


def test_without_a_store_a_coupon_that_the_cache_does_not_know_can_not(api, code, backends):
    backends.store.close()
    assert refused(api.issue(code)) == (503, "UNAVAILABLE")


def test_without_a_store_no_cached_state_refuses_a_command(api, code, backends):
    api.issue(code)
    backends.store.close()
    assert refused(api.issue(code, "bob")) == (503, "UNAVAILABLE")


def refuse_all():
    raise BackendUnavailable("nobody knows")


def test_a_coupon_that_somebody_is_reserving_is_busy(api, code, backends, monkeypatch):
    publish = backends.queue.publish
    monkeypatch.setattr(backends.queue, "publish", lambda messages: refuse_all())
    assert refused(api.issue(code)) == (503, "UNAVAILABLE")
    monkeypatch.setattr(backends.queue, "publish", publish)
    assert refused(api.issue(code)) == (503, "BUSY")


@pytest.mark.logs_error("not taken")
def test_a_topic_that_was_never_made_is_no_server_error(api, backends, monkeypatch):
    def refuse(messages):
        raise BackendRejected("there is no topic 'commands'")

    monkeypatch.setattr(backends.queue, "publish", refuse)
    answer = api.create(amount=1)
    assert refused(answer) == (503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1
