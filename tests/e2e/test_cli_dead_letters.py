"""``coupon dead-letters`` as an operator and a program use it: real processes, on SQLite files."""

import base64
import json

from coupon.applying.dead_letters import encode
from coupon.ports.queue import Delivery, Message
from tests.e2e.deployment import eventually
from tests.e2e.test_cli import one_sentence


def test_dead_letters_are_listed_shown_and_replayed(cli):
    queue = cli.backends().queue
    dead = [Delivery("commands", 1, offset, "key", value) for offset, value in ((7, b'{"a": 1}'), (8, b"\xff"))]
    queue.publish([encode(letter, "not ours", 1_795_000_000_000) for letter in (*dead, dead[0])])
    assert [json.loads(line)["id"] for line in cli.coupon("dead-letters", "list", "--json").stdout.splitlines()] == [
        "commands/1/7",
        "commands/1/8",
    ]
    assert "commands/1/7  2026-11-18T" in cli.coupon("dead-letters", "list").stdout
    assert '"a": 1' in cli.coupon("dead-letters", "show", "commands/1/7").stdout
    assert json.loads(cli.coupon("dead-letters", "show", "commands/1/8", "--json").stdout)["valueBase64"] == "/w=="
    unknown = cli.coupon("dead-letters", "replay", "commands/1/7", "commands/9/9", check=False)
    one_sentence(unknown, 1, "commands/9/9")
    assert not list(queue.browse("commands"))
    assert "1 replayed" in cli.coupon("dead-letters", "replay", "commands/1/8").stdout
    assert [delivery.value for delivery in queue.browse("commands")] == [b"\xff"]
    assert ids(cli) == ["commands/1/7"]
    assert json.loads(cli.coupon("dead-letters", "replay", "--all", "--json").stdout) == {"replayed": 1, "leftOut": 0}
    assert "0 open, 2 replayed, 0 discarded" in cli.coupon("dead-letters", "list").stderr
    assert cli.coupon("dead-letters", "replay", check=False).returncode == 2
    queue.close()


def ids(cli, *options):
    listed = cli.coupon("dead-letters", "list", "--json", *options)
    return [json.loads(line)["id"] for line in listed.stdout.splitlines()]


def test_a_letter_is_open_until_it_is_replayed_or_discarded(cli):
    queue = cli.backends().queue
    dead = [Delivery("commands", 1, offset, "key", b"{}") for offset in range(4)]
    queue.publish([encode(letter, "not ours", 1_795_000_000_000) for letter in dead])
    queue.publish([encode(dead[0], "not ours", 1_795_000_000_000)._replace(value=b"hello")])
    (stranger,) = [each for each in ids(cli) if each.startswith("dead-letters/")]
    assert "1 discarded" in cli.coupon("dead-letters", "discard", "commands/1/0").stdout
    assert "1 replayed" in cli.coupon("dead-letters", "replay", "commands/1/1").stdout
    listed = cli.coupon("dead-letters", "list")
    assert "3 open, 1 replayed, 1 discarded" in listed.stderr
    assert len(listed.stdout.splitlines()) == 3
    states = [json.loads(line) for line in cli.coupon("dead-letters", "list", "--all", "--json").stdout.splitlines()]
    assert {each["id"]: each["state"] for each in states} == {
        "commands/1/0": "discarded",
        "commands/1/1": "replayed",
        "commands/1/2": "open",
        "commands/1/3": "open",
        stranger: "open",
    }
    assert "  discarded  not ours" in cli.coupon("dead-letters", "list", "--all").stdout
    assert json.loads(cli.coupon("dead-letters", "show", "commands/1/0", "--json").stdout)["closedAt"] > "2026"
    left = cli.coupon("dead-letters", "replay", "--all", "--json", check=False)
    assert (left.returncode, json.loads(left.stdout)) == (1, {"replayed": 2, "leftOut": 1})
    assert f"{stranger} is not replayed: it is no dead letter" in left.stderr
    assert "1 discarded" in cli.coupon("dead-letters", "discard", "--all").stdout
    assert (ids(cli), "0 open, 3 replayed, 2 discarded" in cli.coupon("dead-letters", "list").stderr) == ([], True)
    assert "1 replayed" in cli.coupon("dead-letters", "replay", "commands/1/0").stdout
    queue.publish([encode(dead[0], "again, of a topic that was made again", 1_795_000_000_001)])
    assert cli.coupon("dead-letters", "discard", check=False).returncode == 2
    queue.close()


def test_while_the_store_is_unavailable_all_letters_are_listed_and_none_is_closed(cli):
    queue = cli.backends().queue
    queue.publish([encode(Delivery("commands", 1, 7, "key", b"{}"), "not ours", 1_795_000_000_000)])
    cli.environ["COUPON_STORE_URL"] = "dynamodb://127.0.0.1:1?region=local"
    listed = cli.coupon("dead-letters", "list", check=False)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (1, 1)
    assert "nobody knows which letters are open" in listed.stderr
    for action in ("replay", "discard"):
        one_sentence(cli.coupon("dead-letters", action, "--all", check=False), 3, "127.0.0.1:1")
    assert not list(queue.browse("commands"))
    queue.close()


def test_forged_dead_letters_hide_no_other_and_do_nothing_to_the_terminal(cli):
    queue = cli.backends().queue
    good = encode(Delivery("commands", 1, 7, "key", b"{}"), "not ours", 1_795_000_000_000)
    body, evil = json.loads(good.value), "\x1b[2K\r\u202eall letters replayed\x9b\n"
    forged = [
        {"at": 10**17},
        {"at": "now"},
        {"offset": -1},
        {"partition": 2**40},
        {"topic": ""},
        {"topic": "\x1b[2K"},
        {"value": "not base64"},
        {"value": None},
        {"reason": ["x"]},
        {"reason": "x" * 2_000},
        {"key": 5},
        {"whole": "yes"},
    ]
    talking = {"offset": 9, "reason": evil, "key": evil, "value": base64.b64encode(evil.encode()).decode()}
    messages = [*(body | change for change in forged), [], "x" * 500_000, None, body | talking]
    queue.publish([good._replace(value=json.dumps(message).encode()) for message in messages] + [good])
    queue.close()
    listed = cli.coupon("dead-letters", "list")
    listed_ids = [line.split()[0] for line in listed.stdout.splitlines()]
    assert sorted(each for each in listed_ids if each.startswith("commands")) == ["commands/1/7", "commands/1/9"]
    assert len(set(listed_ids)) == len(listed_ids) == len(messages) + 1
    assert listed.stdout.count("it is no dead letter: ") == len(messages) - 1
    shown = cli.coupon("dead-letters", "show", "commands/1/9")
    for output in (listed.stdout, listed.stderr, shown.stdout, shown.stderr):
        assert "Traceback" not in output
        assert not {"\x1b", "\r", "\x9b", "\u202e"} & set(output)
    assert "\\x1b[2K\\r\\u202eall letters replayed\\x9b" in listed.stdout


def test_only_a_whole_letter_of_a_topic_that_workers_read_is_replayed(cli):
    queue = cli.backends().queue
    long = b"x" * 700_000
    dead = [
        Delivery("commands", 1, 7, "key", b"{}"),
        Delivery("dead-letters", 1, 8, "key", b"{}"),
        Delivery("issue", 1, 9, "key", b"{}"),
        Delivery("commands", 1, 10, "key", long),
    ]
    queue.publish([encode(letter, "not ours", 1_795_000_000_000) for letter in dead])
    before = len(list(queue.browse("dead-letters")))
    ran = cli.coupon("dead-letters", "replay", "--all", "--json", check=False)
    assert (ran.returncode, json.loads(ran.stdout)) == (1, {"replayed": 1, "leftOut": 3})
    assert "dead-letters/1/8 is not replayed: 'dead-letters' is none of the topics that workers read" in ran.stderr
    assert "commands/1/10 is not replayed: only the first 600,000 bytes" in ran.stderr
    assert [delivery.value for delivery in queue.browse("commands")] == [b"{}"]
    assert len(list(queue.browse("dead-letters"))) == before
    queue.close()


def test_a_forged_message_is_replayed_by_its_id_and_with_sign_only(cli):
    queue = cli.backends().queue
    queue.beneath.publish([Message("commands", "key", b'{"kind": "issue"}')])
    cli.start_worker()
    eventually(lambda: "it is not signed" in cli.coupon("dead-letters", "list").stdout, 30)
    letter = json.loads(cli.coupon("dead-letters", "list", "--json").stdout)
    assert (letter["forged"], letter["value"]) == (True, '{"kind": "issue"}')
    refused = cli.coupon("dead-letters", "replay", "--all", check=False)
    assert refused.returncode == 1
    assert "a replay would sign it: look at it, and replay it with --sign" in refused.stderr
    assert cli.coupon("dead-letters", "replay", "--all", "--sign", check=False).returncode == 2
    assert len(list(queue.browse("commands"))) == 1
    assert "1 replayed" in cli.coupon("dead-letters", "replay", letter["id"], "--sign").stdout
    assert [delivery.value for delivery in queue.browse("commands") if not delivery.forged] == [b'{"kind": "issue"}']
    queue.close()
