"""``coupon rotate-secret``."""

from pathlib import Path

import click

from coupon.bulk.rotation import Rotation, create
from coupon.cli.context import session
from coupon.cli.output import json_option, result
from coupon.runtime.settings import load
from coupon.runtime.signed_queue import SignedQueue


@click.command("rotate-secret", short_help="Sign messages with another key, in two steps; retire the others.")
@click.option("--retire", is_flag=True, help="Retire the keys that sign no more: later messages of theirs are forged.")
@json_option
def command(retire: bool, as_json: bool) -> None:
    """Sign messages with another key.

    Run it once to add the key to the file of COUPON_KEYRING_FILE. Copy the file to all machines, and run it again: then
    the key signs.

    Processes see the new file within a second. Old keys go on counting, until --retire.
    """
    path = load(if_missing="ignore").keyring_file
    if path and not Path(path).exists():
        create(path)
    with session() as (settings, backends):
        rotation = Rotation(settings.keyring_file, settings.secret)
        if retire:
            assert isinstance(backends.queue, SignedQueue)  # noqa: S101 - of wiring.py
            ids = rotation.retire_others(backends.queue, backends.store)
            sentence = f"retired: {', '.join(ids) or 'none'}; keep {path} as long as the queue"
            result(as_json, {"retired": ids, "file": path}, sentence)
        elif rotation.has_next:
            key_id = rotation.use_next(backends.store)
            sentence = f"the key {key_id} signs: copy {path} to all machines, and to the backups"
            result(as_json, {"key": key_id, "state": "signs", "file": path}, sentence)
        else:
            key_id = rotation.add_next()
            sentence = (
                f"the key {key_id} is in {path}, and signs nothing yet:\n"
                "copy the file to all machines, and then run coupon rotate-secret again"
            )
            result(as_json, {"key": key_id, "state": "next", "file": path}, sentence)
