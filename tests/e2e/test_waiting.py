"""Clients that wait for an outcome: more of them than a web process has threads."""

from concurrent.futures import ThreadPoolExecutor

import requests

from backends.testing.timing import takes_less_than
from tests.e2e.deployment import Deployment, embedded

WAITING = 100


def test_a_hundred_wait_for_a_worker_and_hold_up_nobody(tmp_path):
    with Deployment(embedded(tmp_path), web=1) as service:
        codes = service.create(WAITING + 1)
        worker = service.workers.pop()
        worker.terminate()
        assert worker.wait(15) == 0
        for code in codes:
            assert service.put("issue", couponCode=code, userId="ann").status_code == 202

        def use(code):
            body = {"couponCode": code, "userId": "ann"}
            return requests.put(
                f"{service.url}/v1/coupons/use", json=body, headers={"Prefer": "wait=30"}, timeout=40
            ).json()

        with ThreadPoolExecutor(WAITING) as pool:
            waiting = [pool.submit(use, code) for code in codes[:WAITING]]
            for _ in range(20):  # each finds a thread, whoever waits
                takes_less_than(1, lambda: service.get(f"/v1/coupons/{codes[-1]}").raise_for_status())
                assert not any(each.done() for each in waiting)
            service.start_worker()
            outcomes = [each.result() for each in waiting]
    assert {outcome["status"] for outcome in outcomes} == {"applied"}


def test_who_waits_is_told_by_a_process_that_has_no_worker(tmp_path):
    with Deployment(embedded(tmp_path)) as service:
        (code,) = service.create(1)
        worker = service.workers.pop()
        worker.terminate()
        assert worker.wait(15) == 0
        answer = service.put("issue", headers={"Prefer": "wait=5"}, couponCode=code, userId="ann")
        assert (answer.status_code, answer.json()["status"]) == (200, "applied")
        assert service.get("/v1/users/ann/coupons").json()["items"] == []
        service.start_worker()
        answer = service.put("use", headers={"Prefer": "wait=5"}, couponCode=code, userId="ann")
        assert answer.json()["status"] == "applied"
