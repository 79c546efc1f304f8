"""The settings of the web server: their defaults, and the sentences on what they cannot be."""

import pytest

from coupon.domain.errors import ConfigurationError
from coupon.runtime.server_settings import ServerSettings, load


@pytest.mark.parametrize("environ", [{}, {"WEB_THREADS": "", "WEB_PIN_CPU": "", "HOST": "", "PORT": ""}])
def test_what_is_absent_or_empty_has_its_default(environ):
    assert load(environ) == ServerSettings("127.0.0.1", 8080, processes=2, threads=16, pin_cpu=False)


def test_each_is_read_from_its_variable():
    environ = {"HOST": "::1", "PORT": "80", "WEB_CONCURRENCY": "3", "WEB_THREADS": "4", "WEB_PIN_CPU": "1"}
    assert load(environ) == ServerSettings("::1", 80, processes=3, threads=4, pin_cpu=True)


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("WEB_THREADS", "x", "from 1 to 1024"),
        ("WEB_THREADS", "0", "from 1 to 1024"),
        ("WEB_THREADS", "1.5", "from 1 to 1024"),
        ("WEB_THREADS", "٣", "from 1 to 1024"),
        ("WEB_CONCURRENCY", "-1", "from 1 to 1024"),
        ("WEB_PIN_CPU", "yes", "from 0 to 1"),
        ("PORT", "65536", "from 1 to 65535"),
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "9" * 5_000, "from 1 to 65535"),
    ],
)
def test_what_it_cannot_be_is_named_with_its_range(name, value, range_):
    with pytest.raises(ConfigurationError) as error:
        load({name: value})
    assert str(error.value) == f"{name}={value!r} is not a whole number {range_}"
