"""Tokens of users: what is believed of them, and what a user may do."""

import dataclasses
import http.server
import json
import threading
import time
from contextlib import contextmanager, suppress

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from backends.testing.timing import takes_less_than
from coupon.domain.api_keys import Role
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import ConfigurationError
from coupon.web import create_app
from coupon.web.signing_keys import AGE_MAX_MS, FRESH_MS, PAUSE_MS
from tests.web.conftest import Api
from tests.web.problems import refused, wrong_fields
from tests.web.test_access import add_key

ISSUER, AUDIENCE = "https://login.example", "coupons"
RSA = rsa.generate_private_key(65_537, 2_048)
ECDSA, EDDSA = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())


JWK = {
    ec.EllipticCurvePrivateKey: ECAlgorithm,
    ed25519.Ed25519PrivateKey: OKPAlgorithm,
    rsa.RSAPrivateKey: RSAAlgorithm,
}


def as_jwk(key, name):
    algorithm = next(algorithm for kind, algorithm in JWK.items() if isinstance(key, kind))
    return json.loads(algorithm.to_jwk(key.public_key())) | {"kid": name}


def jwk_set(**keys):
    return json.dumps({"keys": [as_jwk(key, name) for name, key in keys.items()]})


def token(key=ECDSA, algorithm="ES256", name="ec", **claims):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + 60} | claims
    claims = {claim: value for claim, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": name} if name else {})


def bearer(*arguments, **claims):
    return {"Authorization": f"Bearer {token(*arguments, **claims)}"}


@pytest.fixture
def jwks(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(jwk_set(rsa=RSA, ec=ECDSA, ed=EDDSA))
    return file


@pytest.fixture
def api(settings, backends, clock, timer, jwks):
    """A service with tokens of users, and a key, so that it is open to nobody."""
    settings = dataclasses.replace(settings, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(jwks))
    add_key(backends, "admin", Role.ADMIN)
    return Api(create_app(settings, backends, clock, timer).test_client())


@pytest.fixture
def admin(backends):
    return add_key(backends, "admin-2", Role.ADMIN)


@pytest.fixture
def code(api, admin, drain):
    """Of a coupon that ann holds."""
    code = api.create(**admin).json["couponCodes"][0]
    drain()
    api.issue(code, "ann", **admin)
    drain()
    return code


@pytest.mark.parametrize(
    ("key", "algorithm", "name"), [(RSA, "RS256", "rsa"), (ECDSA, "ES256", "ec"), (EDDSA, "EdDSA", "ed")]
)
def test_a_user_sees_its_coupons(api, code, key, algorithm, name):
    answer = api.client.get("/v1/me/coupons", headers=bearer(key, algorithm, name))
    assert [item["couponCode"] for item in answer.json["items"]] == [code]
    assert api.client.get("/v1/me/coupons", headers=bearer(key, algorithm, name, sub="bob")).json["items"] == []


def test_a_user_uses_its_own_coupon_only(api, code, drain):
    assert refused(api.use(code, **bearer(sub="bob"))) == (409, "NOT_HOLDER")
    assert api.use(code, **bearer()).status_code == 202
    drain()
    assert refused(api.use(code, **bearer())) == (409, "ALREADY_USED")


def test_a_user_learns_nothing_of_others_coupons(api, code, admin, drain):
    used, free = code, api.create(**admin).json["couponCodes"][0]
    api.use(used, **bearer())
    drain()
    for each in (used, free):
        assert refused(api.use(each, **bearer(sub="bob"))) == (409, "NOT_HOLDER")


def test_guesses_of_many_users_from_one_address_are_one_callers(settings, backends, clock, timer, jwks):
    chosen = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(jwks), "guesses_per_minute": 20}
    api = Api(create_app(dataclasses.replace(settings, **chosen), backends, clock, timer).test_client())
    unknown = CodeDeriver("the secret of another service").codes("x", 0, 40)
    statuses = [api.use(each, **bearer(sub=f"user{number // 4}")).status_code for number, each in enumerate(unknown)]
    assert statuses == [404] * 21 + [429] * 19


def test_a_user_acts_for_nobody_else(api, code):
    answer = api.client.put("/v1/coupons/use", json={"couponCode": code, "userId": "ann"}, headers=bearer(sub="bob"))
    assert wrong_fields(answer) == {"userId"}
    answer = api.client.put("/v1/coupons/use", json={"couponCode": code, "userId": "ann"}, headers=bearer())
    assert answer.status_code == 202


def test_histories_do_not_name_the_user_as_the_caller(api, code, admin, drain):
    api.use(code, **bearer())
    drain()
    used = api.client.get(f"/v1/coupons/{code}", headers=admin).json["history"][-1]
    assert used["actor"].startswith("user:")
    assert "ann" not in used["actor"]


WRONG = {
    "none": lambda: jwt.encode({"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}, "", "none"),
    "an algorithm with a shared secret": lambda: jwt.encode(
        {"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60}, "x" * 64, "HS256", {"kid": "ec"}
    ),
    "another key's algorithm": lambda: token(ECDSA, "ES256", "rsa"),
    "another key under its name": lambda: token(OTHER),
    "an unknown key": lambda: token(name="unknown"),
    "no name of three": lambda: token(name=None),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "not yet": lambda: token(nbf=int(time.time()) + 60),
    "another audience": lambda: token(aud="others"),
    "no audience": lambda: token(aud=None),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "no end": lambda: token(exp=None),
    "no user": lambda: token(sub=None),
    "an empty user": lambda: token(sub=""),
    "a user with a control character": lambda: token(sub="a\nb"),
    "a long user": lambda: token(sub="a" * 129),
    "a changed one": lambda: token()[:-3] + "AAA",
    "two parts": lambda: token().rpartition(".")[0],
    "no token": lambda: "x",
    "dots": lambda: "..",
    "a surrogate": lambda: "\xe4.\xf6.\xfc",
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/me/coupons"), ("PUT", "/v1/coupons/use")])
def test_a_wrong_token_is_refused(api, what, method, path):
    answer = api.client.open(path, method=method, headers={"Authorization": f"Bearer {WRONG[what]()}"})
    assert refused(answer) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/coupons"),
        ("PUT", "/v1/coupons/issue"),
        ("PUT", "/v1/coupons/cancel"),
        ("PUT", "/v1/coupons/cancel-use"),
        ("GET", "/v1/coupons/AAAAA-AAAAAA-AAAAAAAA"),
        ("GET", "/v1/coupons/expired/today"),
        ("GET", "/v1/users/ann/coupons"),
    ],
)
def test_a_user_may_do_no_more(api, method, path):
    assert refused(api.client.open(path, method=method, headers=bearer())) == (403, "FORBIDDEN")


def test_keys_of_a_file_rotate(api, jwks, timer):
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
    jwks.write_text(jwk_set(new=OTHER))
    timer.ahead_ms += PAUSE_MS
    assert api.client.get("/v1/me/coupons", headers=bearer(OTHER, "ES256", "new")).status_code == 200
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 401


def test_a_withdrawn_key_is_refused_after_a_while(api, jwks, timer):
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
    jwks.write_text(jwk_set(new=OTHER))
    timer.ahead_ms += FRESH_MS
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 401


def test_while_the_file_is_away_known_keys_go_on(api, jwks, timer):
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
    jwks.unlink()
    timer.ahead_ms += FRESH_MS
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
    assert api.client.get("/v1/me/coupons", headers=bearer(name="unknown")).status_code == 401


@pytest.mark.parametrize("text", [None, "", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "eA"}]}', "\0"])
def test_before_the_keys_are_known_a_token_is_503_and_a_key_goes_on(api, jwks, admin, text):
    if text is None:
        jwks.unlink()
    else:
        jwks.write_text(text)
    status = 401 if text and "oct" in text else 503
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == status
    assert api.client.get("/v1/users/ann/coupons", headers=admin).status_code == 200


@contextmanager
def served(document, status=200, pause_s=0.0):
    """An address that serves the document, byte by byte with a pause; its list has the requests."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            with suppress(OSError):
                for first in range(0, len(document), 1 if pause_s else len(document)):
                    self.wfile.write(document.encode()[first : first + (1 if pause_s else len(document))])
                    time.sleep(pause_s)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks", asked
        server.shutdown()


def test_keys_of_an_address_are_asked_for_seldom(settings, backends, clock, timer):
    with served(jwk_set(ec=ECDSA)) as (url, asked):
        settings = dataclasses.replace(settings, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url)
        api = Api(create_app(settings, backends, clock, timer).test_client())
        for number in range(20):
            assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
            assert api.client.get("/v1/me/coupons", headers=bearer(name=f"unknown-{number}")).status_code == 401
        assert len(asked) == 1
        timer.ahead_ms += PAUSE_MS
        assert api.client.get("/v1/me/coupons", headers=bearer(name="unknown")).status_code == 401
        assert len(asked) == 2


def test_an_address_that_sends_on_is_not_followed(settings, backends):
    with served(jwk_set(ec=ECDSA), status=302) as (url, asked):
        settings = dataclasses.replace(settings, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url)
        api = Api(create_app(settings, backends).test_client())
        assert refused(api.client.get("/v1/me/coupons", headers=bearer())) == (503, "UNAVAILABLE")
        assert asked == ["/jwks"]


def test_an_address_that_drips_holds_up_nobody(settings, backends, admin):
    with served(jwk_set(ec=ECDSA), pause_s=0.2) as (url, _):
        settings = dataclasses.replace(settings, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url)
        api = Api(create_app(settings, backends).test_client())

        def ask():
            for _ in range(5):
                assert refused(api.client.get("/v1/me/coupons", headers=bearer())) == (503, "UNAVAILABLE")
            assert api.client.get("/v1/users/ann/coupons", headers=admin).status_code == 200

        takes_less_than(1.5, ask)


def test_a_set_that_cannot_be_read_for_an_hour_is_used_no_more(api, jwks, timer):
    assert api.client.get("/v1/me/coupons", headers=bearer()).status_code == 200
    jwks.unlink()
    timer.ahead_ms += AGE_MAX_MS
    assert refused(api.client.get("/v1/me/coupons", headers=bearer())) == (503, "UNAVAILABLE")


def test_a_key_that_is_for_encryption_verifies_nothing(api, jwks):
    jwks.write_text(json.dumps({"keys": [as_jwk(ECDSA, "ec") | {"use": "enc"}, as_jwk(RSA, "rsa")]}))
    assert refused(api.client.get("/v1/me/coupons", headers=bearer())) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "chosen",
    [
        {"jwt_issuer": ISSUER},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE},
        {"jwt_jwks": "x"},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": "http://login.example/jwks"},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": "ftp://login.example/jwks"},
        {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": "http://127.0.0.1:80@login.example/jwks"},
    ],
)
def test_half_a_configuration_does_not_start(settings, backends, chosen):
    with pytest.raises(ConfigurationError, match="COUPON_JWT"):
        create_app(dataclasses.replace(settings, **chosen), backends)
