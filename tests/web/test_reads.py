import pytest

from coupon.domain.codes import show
from coupon.domain.model import Day
from tests.coupons import a_coupon
from tests.web.conftest import TODAY
from tests.web.problems import refused, wrong_fields

DAY_MS = 86_400_000
EXPIRED, HELD = "/v1/coupons/expired/today", "/v1/users/ann/coupons"


def coupons(number, user_id="ann", expire_at=TODAY):
    return [
        a_coupon(code=f"{place:019}", user_id=user_id, issued_at=1, expire_at=Day(expire_at)) for place in range(number)
    ]


def test_a_coupon_is_told_with_all_its_names_and_its_history(api, code, drain):
    created = api.get(f"/v1/coupons/{code}").json
    assert created == {
        "couponCode": code,
        "userId": None,
        "issued": False,
        "used": False,
        "validFrom": "2026-11-01",
        "expireAt": "2026-11-30",
        "issuedAt": None,
        "usedAt": None,
        "createdAt": "2026-11-22T12:00:00.000Z",
        "modifiedAt": "2026-11-22T12:00:00.000Z",
        "version": 1,
        "history": created["history"],
    }
    operation = api.issue(code).json["operationId"]
    drain()
    issued = api.get(f"/v1/coupons/{code}").json
    assert (issued["userId"], issued["issued"], issued["issuedAt"]) == ("ann", True, "2026-11-22T12:00:00.000Z")
    assert issued["history"][1] == {
        "operationId": operation,
        "command": "issue",
        "at": "2026-11-22T12:00:00.000Z",
        "userId": "ann",
        "actor": "anonymous",
    }


def test_a_coupon_is_found_by_its_code_in_any_way_of_writing_it(api, code):
    for written in (code.lower(), code.replace("-", ""), code.replace("-", "--")):
        assert api.get(f"/v1/coupons/{written}").json["couponCode"] == code


def test_a_code_that_nobody_made_is_not_found(api):
    assert refused(api.get("/v1/coupons/AAAAA-AAAAAA-AAAAAAAA")) == (404, "NOT_FOUND")


@pytest.mark.parametrize("code", ["x", "issue", "A" * 20, "%00" * 19, "%ed%a0%80", "安" * 19])
def test_what_is_not_a_code_is_a_wrong_field(api, code):
    assert wrong_fields(api.get(f"/v1/coupons/{code}")) == {"couponCode"}


@pytest.mark.parametrize("path", [EXPIRED, HELD])
@pytest.mark.parametrize("limit", [7, 500, 1_000])
def test_the_pages_of_a_list_hold_every_row_once_in_order(api, put_in_search, path, limit):
    put_in_search(coupons(2_500))
    pages = api.walk(path, limit)
    assert [item["couponCode"] for page in pages for item in page] == [show(f"{place:019}") for place in range(2_500)]
    assert {len(page) for page in pages[:-1]} == {limit}
    assert len(pages[-1]) > 0


def test_a_page_has_a_hundred_rows_unless_told(api, put_in_search):
    put_in_search(coupons(101))
    for path in (EXPIRED, HELD):
        assert len(api.get(path).json["items"]) == 100


def test_an_empty_list_has_no_rows_and_no_next(api):
    assert api.get(HELD).json == {"items": [], "next": None}


def test_the_lists_tell_coupons_by_their_names(api, code, drain):
    api.issue(code)
    drain()
    (item,) = api.get(HELD).json["items"]
    whole = api.get(f"/v1/coupons/{code}").json
    del whole["history"]
    assert item == whole


def test_the_list_of_today_holds_what_ends_today_and_nothing_else(api, put_in_search):
    put_in_search(
        [
            a_coupon(code=letter * 19, expire_at=Day(f"2026-11-{day}"))
            for letter, day in zip("ABC", (21, 22, 23), strict=True)
        ]
    )
    assert [item["couponCode"] for item in api.get(EXPIRED).json["items"]] == [show("B" * 19)]


def test_the_list_of_today_holds_no_coupon_that_was_used(api, drain):
    left, used, undone = api.create(3, last=TODAY).json["couponCodes"]
    drain()
    for code in (used, undone):
        api.issue(code), api.use(code)
    api.cancel_use(undone)
    drain()
    assert {item["couponCode"] for item in api.get(EXPIRED).json["items"]} == {left, undone}
    assert {item["couponCode"] for item in api.get(HELD).json["items"]} == {used, undone}


def test_a_walk_that_began_before_midnight_goes_on_with_its_day(api, put_in_search, clock):
    put_in_search(coupons(3))
    cursor = api.get(f"{EXPIRED}?limit=2").json["next"]
    clock.ms += DAY_MS
    assert api.get(EXPIRED).json["items"] == []
    assert len(api.get(f"{EXPIRED}?cursor={cursor}").json["items"]) == 1


def test_today_is_in_the_time_zone_of_the_settings(environ, backends, clock, put_in_search):
    from coupon.runtime.settings import load
    from coupon.web import create_app

    put_in_search(coupons(1, expire_at="2026-11-23"))
    clock.ms += 4 * 3_600_000  # 16:00 UTC, 01:00 of the next day in Seoul
    for zone, found in (("UTC", 0), ("Asia/Seoul", 1)):
        client = create_app(load(environ | {"COUPON_TIMEZONE": zone}), backends, clock).test_client()
        assert len(client.get(EXPIRED).json["items"]) == found


def test_a_cursor_is_of_one_list(api, put_in_search):
    put_in_search(coupons(3))
    cursors = {path: api.get(f"{path}?limit=1").json["next"] for path in (EXPIRED, HELD)}
    for path, cursor in cursors.items():
        assert api.get(f"{path}?cursor={cursor}").status_code == 200
        for other in {EXPIRED, HELD, "/v1/users/bob/coupons"} - {path}:
            assert refused(api.get(f"{other}?cursor={cursor}")) == (422, "INVALID_CURSOR")


@pytest.mark.parametrize("cursor", ["", ".", "x", "A.B", "%00", "%ed%a0%80", "2026-11-22/A.x", "x" * 5_000, "é.é"])
def test_a_cursor_that_nobody_gave_is_refused(api, cursor):
    for path in (EXPIRED, HELD):
        assert refused(api.get(f"{path}?cursor={cursor}")) == (422, "INVALID_CURSOR")


@pytest.mark.parametrize(
    ("written", "user_id"),
    [
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("/a//b/", "/a//b/"),
        ("%EC%95%88%EB%85%95", "안녕"),
        ("a%20b", "a b"),
        ("a%3Fb%23", "a?b#"),
        ("coupons", "coupons"),
        ("x/coupons", "x/coupons"),
        ("x" * 128, "x" * 128),
    ],
)
def test_a_user_id_in_an_address_may_hold_anything(api, put_in_search, written, user_id):
    put_in_search([a_coupon(code="A" * 19, user_id=user_id, issued_at=1)])
    assert [item["userId"] for item in api.get(f"/v1/users/{written}/coupons").json["items"]] == [user_id]


@pytest.mark.parametrize("user_id", ["%00", "a%0Ab", "%7F", "%C2%85", "x" * 129])
def test_but_no_control_characters_and_no_more_than_its_limit(api, user_id):
    assert wrong_fields(api.get(f"/v1/users/{user_id}/coupons")) == {"userId"}
