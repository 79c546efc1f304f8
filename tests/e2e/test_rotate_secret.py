"""``coupon rotate-secret`` and ``coupon init``, while the service runs."""

import json

import pytest

from coupon.domain.signatures import MessageKey, parse
from coupon.ports.queue import Message
from tests.e2e.deployment import Deployment, embedded, eventually

BODY = {"amount": 3, "validFrom": "2026-11-01", "expireAt": "2099-12-31"}


@pytest.fixture
def service(tmp_path):
    """Its keyring file is there, and has no key of its own."""
    keyring = tmp_path / "keyring"
    keyring.write_text("COUPON_SECRET\n")
    with Deployment({**embedded(tmp_path), "COUPON_KEYRING_FILE": str(keyring)}) as running:
        yield running


def create(service):
    """The codes of new coupons, once they are there."""
    answer = service.session.post(f"{service.url}/v1/coupons", json=BODY, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    return answer.json()["couponCodes"]


def signers(service) -> list[str]:
    """The ids of the keys that signed creations, in order."""
    backends = service.backends()
    try:
        signed = [parse(delivery.value) for delivery in backends.queue.beneath.browse("creation")]
    finally:
        backends.close()
    return [each.key_id if each else "" for each in signed]


def rotate(service, *arguments):
    return json.loads(service.coupon("rotate-secret", "--json", *arguments).stdout)


def test_keys_rotate_while_the_service_runs_and_a_retired_one_signs_nothing_more(service):
    first = MessageKey(service.environ["COUPON_SECRET"]).id
    create(service)
    added = rotate(service)
    assert added["state"] == "next"
    create(service)
    assert set(signers(service)) == {first}
    assert rotate(service) == {**added, "state": "signs"}

    def has_signed():
        create(service)
        return added["key"] in signers(service)

    eventually(has_signed, 10)
    assert rotate(service, "--retire")["retired"] == [first]
    forged = MessageKey(service.environ["COUPON_SECRET"]).sign("commands", "k", b"{}")
    backends = service.backends()
    backends.queue.beneath.publish([Message("commands", "k", forged)])
    backends.close()
    eventually(lambda: "which is retired" in service.coupon("dead-letters", "list").stdout, 20)
    assert len(create(service)) == 3
    assert len(service.coupon("dead-letters", "list").stdout.splitlines()) == 1
    assert (service.folder / "keyring").stat().st_mode & 0o777 == 0o600


def test_a_store_is_restored_from_messages_of_every_key(service):
    codes = create(service)
    rotate(service), rotate(service)
    eventually(lambda: len(set(signers(service))) > 1 or not codes.extend(create(service)), 20)
    rotate(service, "--retire")
    codes += create(service)
    service.__exit__()
    for file in service.folder.glob("store.db*"):
        file.unlink()
    (service.folder / "worker.heartbeat").unlink()
    for file in service.folder.glob("cache.db*"):
        file.unlink()
    service.coupon("init")
    restored = json.loads(service.coupon("restore", "--json").stdout)
    assert (restored["coupons"], restored["forged"], restored["left"]) == (len(codes), 0, 0)


def test_without_a_file_for_it_nothing_rotates(tmp_path):
    service = Deployment(embedded(tmp_path))
    service.coupon("init")
    ran = service.coupon("rotate-secret", check=False)
    assert ran.returncode == 2
    assert "COUPON_KEYRING_FILE is not set" in ran.stderr


def test_the_first_rotation_makes_the_file(tmp_path):
    service = Deployment({**embedded(tmp_path), "COUPON_KEYRING_FILE": str(tmp_path / "keys" / "ring")})
    ran = service.coupon("init", check=False)
    assert ran.returncode == 2
    assert "No such file" in ran.stderr
    del service.environ["COUPON_KEYRING_FILE"]
    service.coupon("init")
    service.environ["COUPON_KEYRING_FILE"] = str(tmp_path / "keys" / "ring")
    assert rotate(service)["state"] == "next"
    assert rotate(service)["state"] == "signs"


def test_another_secret_is_refused_by_init_and_no_message_is_taken_for_forged(tmp_path):
    with Deployment(embedded(tmp_path)) as service:
        create(service)
    service.environ["COUPON_SECRET"] = "another secret, for tests only"
    ran = service.coupon("init", check=False)
    assert ran.returncode == 2
    assert "COUPON_SECRET is another one than at the first coupon init" in ran.stderr
    service.start_worker()
    log = service.folder / "worker.log"
    service.start_web()
    try:
        answer = service.session.post(f"{service.url}/v1/coupons", json=BODY)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert "dead letter" not in log.read_text()
    finally:
        service.__exit__()


def test_init_says_how_many_messages_of_before_it_takes(tmp_path):
    service = Deployment(embedded(tmp_path))
    service.coupon("init")
    backends = service.backends()
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    backends.queue.beneath.publish([Message("commands", "k", b"{}")] * 3)
    backends.close()
    assert "taken unsigned: run coupon init again" in service.coupon("init", "--take-unsigned").stderr
    assert "messages are taken that are not signed: run coupon init" in service.coupon("lag", check=False).stdout
    ran = service.coupon("init", "--json")
    assert json.loads(ran.stdout)["unsigned"] == 3
    assert "up to 3 messages of earlier versions are taken unsigned" in ran.stderr
    assert "not signed" not in service.coupon("lag", check=False).stdout
