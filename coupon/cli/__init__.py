"""The command ``coupon``. Each of its commands is a file, which is imported when it runs, so that each starts fast.

| exit status | meaning                                                        |
| ----------- | -------------------------------------------------------------- |
| 0           | done                                                           |
| 1           | done in part, or the answer is no, or something is wrong       |
| 2           | arguments, configuration or a file cannot work                 |
| 3           | a backend is unavailable: trying again may help                |
| 130         | stopped with Ctrl-C                                            |
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import click

from coupon.cli.output import say
from coupon.domain.errors import (
    BackendRejected,
    BackendUnavailable,
    ConfigurationError,
    InvalidApiKey,
    UnusableFile,
)
from coupon.runtime.umask import make_files_private

DONE, PARTIAL, USAGE_ERROR, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130


class CommandPerFile(click.Group):
    """Knows its commands by name, and imports one when it is used."""

    files = {  # noqa: RUF012 - constant
        "init": "init",
        "web": "web",
        "worker": "worker",
        "import": "import_file",
        "export": "export",
        "keys": "keys",
        "reindex": "reindex",
        "restore": "restore",
        "lag": "lag",
        "dead-letters": "dead_letters",
        "rotate-secret": "rotate_secret",
        "settings": "settings",
        "worker-alive": "worker_alive",
    }

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.files)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.files:
            return None
        command: click.Command = import_module(f"coupon.cli.{self.files[cmd_name]}").command
        return command


@click.group(cls=CommandPerFile, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="coupon")
def coupon() -> None:
    """The coupon service, for its operators. Settings are read from the file that COUPON_CONF names; without it, from
    conf/embedded.env, or from the same file in the package."""


def main() -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: not every terminal has every character
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status. An error is one sentence on standard error."""
    make_files_private()
    try:
        return coupon.main(list(arguments), prog_name="coupon", standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BackendUnavailable as error:
        return _failed(str(error), UNAVAILABLE)
    except (ConfigurationError, BackendRejected, InvalidApiKey, UnusableFile) as error:
        return _failed(str(error), USAGE_ERROR)
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE_ERROR)


def _failed(sentence: str, status: int) -> int:
    say(f"coupon: {sentence}")
    return status
