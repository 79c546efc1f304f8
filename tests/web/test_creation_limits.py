"""What may be outstanding is bounded, in all and for each caller; what is refused leaves nothing behind."""

import pytest

from coupon.domain.topics import CREATION, GROUP
from coupon.runtime.settings import load
from coupon.web import create_app
from coupon.worker.worker import Worker, join
from tests.web.conftest import Api, TurnableClock
from tests.web.problems import problem, refused

TOO_MANY = (429, "TOO_MANY_CREATIONS")


class Shop:
    """Web processes with small limits, and their timer."""

    def __init__(self, environ, backends):
        self.settings = load(environ | {"COUPON_CREATIONS_MAX": "10000", "COUPON_CREATIONS_CALLER_MAX": "6000"})
        self.backends = backends
        self.timer = TurnableClock()

    def process(self):
        return Api(create_app(self.settings, self.backends, timer=self.timer).test_client())

    def later(self):
        """When the backlog is measured again."""
        self.timer.ms += 1_000

    def queued(self):
        return len(list(self.backends.queue.browse(CREATION)))

    def drain(self):
        consumer = join(self.backends, self.settings)
        worker = Worker(self.backends, self.settings, consumer)
        while worker.run_once(poll_s=0):
            pass
        consumer.close()
        self.later()


@pytest.fixture
def shop(environ, backends):
    return Shop(environ, backends)


def create(api, amount, caller="ann", **headers):
    return api.create(amount=amount, **{"X-Caller": caller}, **headers)


def test_what_is_outstanding_in_all_is_bounded(shop):
    api = shop.process()
    assert [create(api, 4_000, caller).status_code for caller in ("ann", "bob")] == [202, 202]
    answer = create(api, 2_001, "cid")
    assert refused(answer) == TOO_MANY
    assert answer.headers["Retry-After"] == "10"
    assert "8,000 coupons wait" in problem(answer)["detail"]
    assert create(api, 2_000, "cid").status_code == 202
    shop.drain()
    assert create(api, 4_000, "cid").status_code == 202


def test_other_processes_are_counted_too(shop):
    one, other = shop.process(), shop.process()
    assert create(one, 4_000).status_code == 202
    assert create(other, 5_000, "bob").status_code == 202
    shop.later()
    assert [refused(create(api, 2_000, "cid")) for api in (one, other)] == [TOO_MANY] * 2


def test_each_caller_has_a_share_in_whichever_process(shop):
    one, other = shop.process(), shop.process()
    assert create(one, 4_000).status_code == 202
    answer = create(other, 2_001)
    assert refused(answer) == TOO_MANY
    assert "of this caller" in problem(answer)["detail"]
    assert create(other, 2_001, "bob").status_code == 202
    assert create(other, 2_000).status_code == 202
    shop.drain()
    assert create(one, 6_000).status_code == 202


def test_a_caller_who_was_refused_is_not_counted_in_all(shop):
    api = shop.process()
    assert create(api, 6_000).status_code == 202
    for _ in range(5):
        assert refused(create(api, 4_000)) == TOO_MANY
    assert create(api, 4_000, "bob").status_code == 202


def test_many_small_creations_of_a_caller_count_for_what_they_are(shop):
    api, accepted = shop.process(), 0
    for number in range(200):
        accepted += 250 * (create(api, 250, **{"Idempotency-Key": f"{number}"}).status_code == 202)
    assert 4_500 <= accepted <= 7_500  # about each second one counts, as 500


def test_creations_of_one_are_not_taken_for_five_hundred(shop):
    api = shop.process()
    assert [create(api, 1, f"caller-{n}").status_code for n in range(100)] == [202] * 100
    shop.later()
    assert create(api, 4_000).status_code == 202  # 50,000 if each message were full


def test_one_alone_is_never_too_many(shop):
    api = shop.process()
    assert create(api, 50_000).status_code == 202
    shop.later()
    assert refused(create(api, 1, "bob")) == TOO_MANY


def test_what_was_refused_has_no_effect_and_binds_no_key(shop):
    api = shop.process()
    assert create(api, 6_000).status_code == 202
    before = shop.queued()
    assert refused(create(api, 5_000, "bob", **{"Idempotency-Key": "k"})) == TOO_MANY
    assert shop.queued() == before
    assert create(api, 700, "bob", **{"Idempotency-Key": "k"}).status_code == 202


def test_a_retry_of_what_was_accepted_is_not_refused_and_not_counted_again(shop):
    one, other = shop.process(), shop.process()
    key = {"Idempotency-Key": "k"}
    first = create(one, 6_000, **key)
    assert first.status_code == 202
    before = shop.queued()
    for api in (one, other):
        again = create(api, 6_000, **key)
        assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert shop.queued() == before
    assert create(other, 4_000, "bob").status_code == 202


def test_a_retry_of_what_was_begun_is_not_refused_without_a_cache_either(shop, backends):
    api = shop.process()
    key = {"Idempotency-Key": "k"}
    assert create(api, 2_000, **key).status_code == 202
    shop.drain()
    backends.cache.lose_all()
    assert create(api, 50_000, "bob").status_code == 202
    assert create(api, 2_000, **key).status_code == 202


def test_without_a_cache_the_total_still_protects(shop, monkeypatch):
    from coupon.domain.errors import BackendUnavailable

    def away(*_):
        raise BackendUnavailable("injected")

    for method in ("get", "add", "replace"):
        monkeypatch.setattr(shop.backends.cache, method, away)
    api = shop.process()
    assert [create(api, 5_000).status_code for _ in range(2)] == [202, 202]
    assert refused(create(api, 500)) == TOO_MANY


def test_a_share_is_of_bounded_size(shop, monkeypatch):
    from coupon.acceptance import creation_limits

    monkeypatch.setattr(creation_limits, "SHARE_MAX", 4)
    api = shop.process()
    assert [create(api, 500).status_code for _ in range(12)] == [202] * 12
    assert refused(create(api, 500)) == TOO_MANY


def test_without_a_cache_a_retry_of_a_creation_publishes_nothing_again(api, backends):
    backends.cache.close()
    key = {"Idempotency-Key": "k"}
    first = api.create(amount=5_000, **key)
    published = backends.queue.lag([CREATION], GROUP)
    assert api.create(amount=5_000, **key).json == first.json
    assert backends.queue.lag([CREATION], GROUP) == published
