import pytest

from tests.web.problems import refused


def test_an_operation_is_accepted_and_then_applied(api, code, drain):
    answer = api.issue(code)
    outcome = {"operationId": answer.json["operationId"], "couponCode": code}
    assert api.get(answer.headers["Location"]).json == outcome | {"status": "accepted"}
    drain()
    assert api.get(answer.headers["Location"]).json == outcome | {"status": "applied"}


def test_an_operation_that_lost_to_a_rival_says_so(api, code, drain, backends):
    first = api.issue(code, "ann")
    backends.cache.delete_many([f"coupon:{code.replace('-', '')}"])
    second = api.issue(code, "bob")
    drain()
    assert api.get(first.headers["Location"]).json["status"] == "applied"
    outcome = api.get(second.headers["Location"]).json
    assert (outcome["status"], outcome["code"]) == ("rejected", "RIVAL_WON")


def test_a_creation_tells_its_progress_and_its_codes_in_pages(api, worker, drain):
    answer = api.create(amount=1_200)
    assert "couponCodes" not in answer.json
    address = answer.headers["Location"]
    outcome = api.get(address).json
    assert (outcome["status"], outcome["amount"], outcome["created"]) == ("accepted", 1_200, 0)
    assert len(outcome["couponCodes"]) == 100
    drain()
    codes, cursor, pages = [], "", 0
    while cursor is not None:
        outcome = api.get(f"{address}?limit=500" + (f"&cursor={cursor}" if cursor else "")).json
        assert (outcome["status"], outcome["created"]) == ("applied", 1_200)
        codes += outcome["couponCodes"]
        cursor, pages = outcome["next"], pages + 1
    assert (len(codes), len(set(codes)), pages) == (1_200, 1_200, 3)
    assert all(api.get(f"/v1/coupons/{code}").status_code == 200 for code in codes[::300])


def test_walking_the_codes_of_a_finished_creation_asks_the_store_once(api, drain, backends, monkeypatch):
    address = api.create(amount=1_200).headers["Location"]
    drain()
    cursor = api.get(f"{address}?limit=500").json["next"]
    monkeypatch.setattr(backends.store, "get_many", None)
    assert api.get(f"{address}?limit=500&cursor={cursor}").json["created"] == 1_200


def test_the_cursor_of_another_creation_is_refused(api):
    one, other = (api.create(amount=200).headers["Location"] for _ in range(2))
    cursor = api.get(one).json["next"]
    assert api.get(f"{one}?cursor={cursor}").status_code == 200
    assert refused(api.get(f"{other}?cursor={cursor}")) == (422, "INVALID_CURSOR")


@pytest.mark.parametrize(
    "forgery", ["x", "-", "a-b", "a-5-", "a-b-c-d", "%00", "%f0%9f%92%b3", "applied.5.abc", "x" * 5_000]
)
def test_an_address_that_was_never_given_is_not_found(api, forgery):
    assert refused(api.get(f"/v1/operations/{forgery}")) == (404, "NOT_FOUND")


def test_an_address_that_was_changed_is_not_found(api, code):
    address = api.issue(code).headers["Location"]
    for place in range(len("/v1/operations/"), len(address)):
        changed = address[:place] + ("a" if address[place] != "a" else "b") + address[place + 1 :]
        assert refused(api.get(changed)) == (404, "NOT_FOUND")


def test_a_cursor_is_no_address(api):
    cursor = api.get(api.create(amount=200).headers["Location"]).json["next"]
    place, _, signature = cursor.rpartition(".")
    assert refused(api.get(f"/v1/operations/{place}-{signature}")) == (404, "NOT_FOUND")
