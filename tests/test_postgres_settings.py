"""What is said about PostgreSQL without any server: its settings, its errors, what is lacking."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from documents import TOPICS, names, rows

from receiver.model.errors import SettingsError, StoreUnavailable
from receiver.server.settings import load_settings
from receiver.store import described, password_of
from receiver.store.postgres.failures import REASONS, storage_failure

URL = "postgresql://user:sentinel%20word@db.example/ledger"
SECRETS = {"RECEIVER_SECRETS": "x" * 32, "RECEIVER_ADMIN_TOKEN": "y" * 32}


@pytest.mark.parametrize("url", [URL, URL.replace("postgresql", "postgres")])
def test_a_server_is_named_by_a_url_of_either_spelling(url: str, tmp_path: Path) -> None:
    assert load_settings({"DATABASE_URL": url, **SECRETS}, tmp_path).database == url


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_that_a_file_would_make_must_be_given(variable: str, tmp_path: Path) -> None:
    given = {name: value for name, value in SECRETS.items() if name != variable}
    with pytest.raises(SettingsError) as refused:
        load_settings({"DATABASE_URL": URL, **given}, tmp_path)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable}: ")
    assert "openssl" in problem


def test_a_url_that_cannot_be_read_is_told_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"DATABASE_URL": "postgresql://user:sentinel%word@db/ledger", **SECRETS}, tmp_path)
    (problem,) = refused.value.problems
    assert problem.startswith("DATABASE_URL: database: expected postgresql://")
    assert "sentinel" not in problem


def test_where_a_ledger_is_is_told_without_its_password() -> None:
    assert described(URL) == "ledger at db.example"
    assert password_of(URL) == "sentinel word"
    assert password_of("postgresql://receiver:receiver@db/receiver") is None, "the word itself is no secret"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("57P01", "connection_lost"),
        ("08006", "connection_lost"),
        ("53100", "disk_full"),
        ("53300", "too_many_connections"),
        ("25006", "read_only"),
        ("40001", "conflict"),
        ("40P01", "conflict"),
        ("40003", "connection_lost"),
        ("55P03", "locked"),
        ("57014", "too_slow"),
        ("42P01", "tables_gone"),
        ("23505", None),
        ("22P02", None),
        ("42601", None),
    ],
)
def test_an_error_of_the_storage_is_told_from_one_of_a_statement(state: str, reason: str | None) -> None:
    assert storage_failure(psycopg.errors.lookup(state)("a test")) == reason


def test_a_connection_that_ended_without_a_word_is_lost() -> None:
    assert storage_failure(psycopg.OperationalError("the connection is closed")) == "connection_lost"
    assert storage_failure(ValueError("a bug")) is None
    assert storage_failure(StoreUnavailable("cannot_connect", "")) == "cannot_connect"


def test_every_reason_is_explained() -> None:
    explained = {name for cells in rows(TOPICS["postgres"]) for name in names(cells[0])}
    assert explained == {*REASONS.values(), "cannot_connect", "in_use", "cannot_write"}


# ---------------------------------------------------------------- without the extra


def run(code: str, directory: Path) -> str:
    """What a Python prints in which psycopg cannot be imported."""
    (directory / "psycopg.py").write_text("raise ImportError('not installed')")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(directory)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_without_the_extra_the_setting_says_what_to_install(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from receiver.server.settings import read_settings
print(read_settings({{"DATABASE_URL": {URL!r}, **{SECRETS!r}}}, Path())[1])
"""
    printed = run(code, tmp_path)
    assert "pip install 'psycopg[binary]" in printed
    assert "sentinel" not in printed


@pytest.mark.slow
def test_without_the_extra_a_file_is_served_as_ever(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from receiver.server.service import Service
from receiver.server.settings import load_settings
Service(load_settings({}, Path()))
print("served")
"""
    assert run(code, tmp_path) == "served\n"
