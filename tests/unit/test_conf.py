"""The files under conf/ say what the code does."""

import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from msgspec.inspect import IntType, LiteralType, type_info

from coupon.bulk.csv_rows import Row
from coupon.bulk.row_file import open_rows
from coupon.runtime import settings

CONF = Path(__file__).parents[2] / "conf"
LINE = re.compile(r"^(?:# )?(COUPON_[A-Z_]+)=(.*)$", re.MULTILINE)


def _explained():
    return dict(LINE.findall((CONF / "embedded.env").read_text()))


def test_embedded_env_explains_every_setting_and_no_other():
    assert set(_explained()) == {settings.PREFIX + name.upper() for name in settings.TYPES}


@pytest.mark.parametrize("field", fields(settings.Settings), ids=lambda field: field.name)
def test_a_default_and_its_range_are_told_as_they_are(field):
    if field.default not in (MISSING, ""):
        assert _explained()[settings.PREFIX + field.name.upper()] == str(field.default)
    match type_info(settings.TYPES[field.name]):
        case IntType(ge=low, le=high):
            assert f"{low} to {high}" in _comment_above(field.name)
        case LiteralType(values=choices):
            assert [choice for choice in choices if choice not in _comment_above(field.name)] == []


def _comment_above(name):
    """The paragraph that ends in the setting."""
    text = (CONF / "embedded.env").read_text()
    return next(part for part in text.split("\n\n") if f"{settings.PREFIX}{name.upper()}=" in part)


def test_the_default_of_the_package_is_the_same_file(tmp_path, monkeypatch):
    assert settings.PACKAGED_CONF.samefile(CONF / "embedded.env")
    monkeypatch.chdir(tmp_path)
    assert settings.load({}, if_missing="ignore").store_url == "sqlite:///data/store.db"


@pytest.mark.parametrize("name", ["embedded.env", "services.env", "redis.env", "mongodb.env", "test.env"])
def test_each_file_is_a_configuration(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the secret is made under data/
    loaded = settings.load({"COUPON_CONF": str(CONF / name)})
    assert len(loaded.secret) >= settings.SECRET_MIN


def test_the_sample_is_good_and_shows_codes_with_and_without_dashes():
    with open_rows(str(CONF / "sample.csv")) as file:
        sample = list(file)
    assert len(sample) == 20
    assert all(isinstance(row, Row) for row in sample)
    assert 0 < sum("-" in row.text for row in sample) < 20


def test_the_generator_writes_good_rows_that_depend_on_the_seed_alone(tmp_path):
    first, again, other = (_generated("500", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other
    (tmp_path / "coupons.csv").write_bytes(first)
    with open_rows(str(tmp_path / "coupons.csv")) as file:
        codes = {row.code for row in file if isinstance(row, Row)}
    assert len(codes) == 500


def _generated(*arguments):
    command = [sys.executable, CONF / "generate_coupons.py", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout
