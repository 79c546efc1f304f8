"""What several contract tests share."""

import logging
import secrets
from collections.abc import Iterator

import pytest

from backends.store.dynamodb_model import bind
from tests.services import Services


@pytest.fixture
def dynamodb_table(services: Services) -> Iterator[str]:
    """A name that no table has; what was made under it is deleted."""
    table = f"test-{secrets.token_hex(6)}"
    yield table
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    model = bind(table, host=f"http://{services.dynamodb}", region="local", **keys)
    if model.exists():
        model.delete_table()
    model._get_connection().connection.client.close()


@pytest.fixture
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A driver's words stay with the driver: callers get exceptions."""
    caplog.set_level(logging.INFO)
    yield
    assert not caplog.records
