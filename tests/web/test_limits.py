import io
import json
import time

import pytest

from backends.testing.timing import TRIES
from coupon.domain.topics import command_topics
from coupon.web import body_limits
from tests.web.problems import problem, refused, wrong_fields

CREATION = {"amount": 1, "validFrom": "2026-11-01", "expireAt": "2026-11-30"}
ISSUE = {"userId": "ann", "couponCode": "AAAAA-AAAAAA-AAAAAAAA"}


def post(api, body):
    return api.client.post("/v1/coupons", json=body)


def issue(api, body):
    return api.client.put("/v1/coupons/issue", json=body)


@pytest.mark.parametrize("amount", [0, -1, 1_000_001, 10**30, 1.0, 1.5, "5", True, None, [1], {}])
def test_an_amount_is_a_whole_number_from_one_to_a_million(api, amount):
    assert wrong_fields(post(api, CREATION | {"amount": amount})) == {"amount"}


def test_the_largest_amount_is_a_setting(environ, backends):
    from coupon.runtime.settings import load
    from coupon.web import create_app

    client = create_app(load(environ | {"COUPON_MAX_AMOUNT": "7"}), backends).test_client()
    assert client.post("/v1/coupons", json=CREATION | {"amount": 7}).status_code == 202
    assert client.post("/v1/coupons", json=CREATION | {"amount": 8}).status_code == 422
    amount = client.get("/openapi.json").json["components"]["schemas"]["Creation"]["properties"]["amount"]
    assert (amount["type"], amount["minimum"], amount["maximum"]) == ("integer", 1, 7)


@pytest.mark.parametrize(
    "day",
    [
        *("2026-02-29", "2026-13-01", "20261301", "2026-1-1", "26-11-22", "2026-W47-7", "2026-11-22T00:00", ""),
        *(20261122, None, "２０２６-11-22", " 2026-11-22", "2026-11-22\n", "0000-01-01"),
    ],
)
def test_a_day_is_a_day_of_the_calendar(api, day):
    assert wrong_fields(post(api, CREATION | {"validFrom": day})) == {"validFrom"}


def test_the_last_day_is_not_before_the_first(api):
    assert wrong_fields(post(api, CREATION | {"validFrom": "2026-12-01"})) == {"expireAt"}
    assert post(api, CREATION | {"validFrom": "2026-11-30"}).status_code == 202


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\0b", "a\nb", "ann\n", "\x7f", "\x85", 7, None, [], {}])
def test_a_user_id_is_text_without_control_characters(api, user_id):
    assert wrong_fields(issue(api, ISSUE | {"userId": user_id})) == {"userId"}
    assert wrong_fields(api.client.put("/v1/coupons/use", json=ISSUE | {"userId": user_id})) == {"userId"}


@pytest.mark.parametrize("user_id", ["x" * 128, "안녕", "💳" * 128, " ", "a/b", "..", "a b", "'; DROP TABLE"])
def test_any_other_text_is_a_user_id(api, code, drain, user_id):
    assert api.issue(code, user_id).status_code == 202
    drain()
    assert api.get(f"/v1/coupons/{code}").json["userId"] == user_id


@pytest.mark.parametrize("code", ["", "A", "A" * 18, "A" * 20, "AAAAA-AAAAAA-AAAAAAA!", "A" * 18 + "é", 7, None, ["A"]])
def test_a_code_is_nineteen_letters_and_digits(api, code):
    for path in ("issue", "use", "cancel", "cancel-use"):
        body = {"couponCode": code} | ({"userId": "ann"} if path == "issue" else {})
        assert wrong_fields(api.client.put(f"/v1/coupons/{path}", json=body)) == {"couponCode"}


def test_every_wrong_field_is_named_at_once(api):
    assert wrong_fields(post(api, {"amount": 0, "validFrom": "soon"})) == {"amount", "validFrom", "expireAt"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("issue", ISSUE),
        ("use", ISSUE),
        ("cancel", {"couponCode": ISSUE["couponCode"]}),
        ("cancel-use", {"couponCode": ISSUE["couponCode"]}),
    ],
)
def test_an_unknown_field_is_refused(api, path, body):
    for name, named in (("amount", "amount"), ("__proto__", "__proto__"), ("x" * 10_000, "x" * 99 + "…")):
        assert wrong_fields(api.client.put(f"/v1/coupons/{path}", json=body | {name: 1})) == {named}


@pytest.mark.parametrize("number", [19, 21, 250])
def test_of_many_unknown_fields_the_first_twenty_are_named(api, number):
    body = {f"{place} " + "x" * 200: None for place in range(number)}
    cut = {name[:99] + "…" for name in body}
    for sent in (ISSUE | body, body | ISSUE):
        answer = issue(api, sent)
        assert (wrong_fields(answer) <= cut, len(problem(answer)["errors"])) == (True, min(number, 20))
        assert len(answer.data) < 7_000


def test_a_body_of_very_many_fields_costs_little(environ, backends):
    from coupon.runtime.settings import load
    from coupon.web import create_app

    client = create_app(load(environ | {"COUPON_MAX_BODY_BYTES": "1000000"}), backends).test_client()
    body = json.dumps({f"{place:05d}": 1 for place in range(80_000)})
    assert 900_000 < len(body) < 1_000_000
    refusing = cpu_s(lambda: client.put("/v1/coupons/issue", data=body, content_type="application/json"))
    assert refusing < 2 * cpu_s(lambda: json.loads(body))  # 15 times that, while each field was looked at


def cpu_s(work):
    """The least CPU time of a few tries."""
    took_s = []
    for _ in range(TRIES):
        began = time.thread_time()
        work()
        took_s.append(time.thread_time() - began)
    return min(took_s)


def test_cancelling_names_no_user(api):
    assert wrong_fields(api.client.put("/v1/coupons/cancel", json=ISSUE)) == {"userId"}


@pytest.mark.parametrize("body", [[], "text", 7, None, True, [ISSUE]])
def test_a_body_is_an_object(api, body):
    answer = api.client.put("/v1/coupons/issue", data=json.dumps(body), content_type="application/json")
    assert wrong_fields(answer) == {"body"}


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"{",
            b"{'a': 1}",
            b'{"amount": NaN}',
            b'{"amount": Infinity}',
            b"\xff\xfe",
            b'\xef\xbb\xbf{"amount": 1}',
        ),
        *(
            b'{"userId": "\\ud800"}',
            b"[" * 50_000,
            b'{"amount": ' + b"9" * 10_000 + b"}",
            b'"\xed\xa0\x80"',
            '{"a": 1}'.encode("utf-16"),
        ),
    ],
)
def test_what_is_not_json_in_utf8_is_a_bad_request(api, data):
    answer = api.client.post("/v1/coupons", data=data, content_type="application/json")
    assert refused(answer) == (400, "INVALID_JSON")


@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "text/json", "json"]
)
def test_another_media_type_is_refused(api, media_type):
    answer = api.client.post("/v1/coupons", data=json.dumps(CREATION), content_type=media_type)
    assert refused(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_charset_is_no_other_media_type(api):
    answer = api.client.post("/v1/coupons", data=json.dumps(CREATION), content_type="Application/JSON; charset=utf-8")
    assert answer.status_code == 202


def test_a_body_has_at_most_64_kib(api):
    body = json.dumps(CREATION).encode()
    for size, status in ((65_536, 202), (65_537, 413)):
        padded = body + b" " * (size - len(body))
        answer = api.client.post("/v1/coupons", data=padded, content_type="application/json")
        assert answer.status_code == status
    assert refused(answer) == (413, "BODY_TOO_LARGE")


def test_a_chunked_body_has_at_most_64_kib_too(api):
    answer = api.client.post(
        "/v1/coupons",
        input_stream=io.BytesIO(b" " * 65_537),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert refused(answer) == (413, "BODY_TOO_LARGE")


def test_a_body_that_breaks_off_is_a_bad_request(api):
    class BrokenOff(io.BytesIO):
        def read(self, size=-1):
            raise ConnectionResetError

    answer = api.client.post("/v1/coupons", input_stream=BrokenOff(), content_type="application/json", content_length=9)
    assert refused(answer) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Caller"])
@pytest.mark.parametrize("value", ["", " ", "a b", "a\tb", "clé", "x" * 256])
def test_keys_and_callers_are_visible_ascii(api, header, value):
    assert wrong_fields(api.create(**{header: value})) == {header}


@pytest.mark.parametrize(("header", "longest"), [("Idempotency-Key", 255), ("X-Caller", 128)])
def test_keys_and_callers_have_a_largest_length(api, header, longest):
    assert api.create(**{header: "~" * longest}).status_code == 202
    assert wrong_fields(api.create(**{header: "~" * (longest + 1)})) == {header}


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.0", "1_0", " 5", "٣", "9" * 5_000])
def test_a_limit_is_a_whole_number_from_one_to_a_thousand(api, limit):
    for path in ("/v1/coupons/expired/today", "/v1/users/ann/coupons"):
        assert wrong_fields(api.client.get(path, query_string={"limit": limit})) == {"limit"}


def test_what_was_refused_leaves_no_trace(api, backends):
    issue(api, ISSUE | {"userId": ""})
    post(api, CREATION | {"amount": 0})
    for topic in command_topics("single"):
        assert list(backends.queue.browse(topic)) == []


def test_the_problem_says_what_is_wrong_with_the_field(api):
    body = problem(post(api, CREATION | {"amount": "5"}))
    assert body["errors"]["amount"] == ["Not a valid integer."]
    assert "amount" in body["detail"]


def test_an_address_may_take_larger_bodies_than_the_others(app):
    limits = app.extensions[body_limits.EXTENSION]
    limits.larger["/v1/batch"] = 1_000_000
    assert (limits.of("/v1/batch"), limits.of("/v1/coupons")) == (1_000_000, 65_536)
