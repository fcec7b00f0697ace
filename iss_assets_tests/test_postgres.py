"""The server that tests use is a real one: fresh databases, and no entry without the password."""

from __future__ import annotations

import pytest

from iss_assets_tests.postgres import PostgresServer


def test_every_test_gets_an_empty_database(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.execute("create table t (n int)", postgres_url.rpartition("/")[2])
    other = postgres.new_database().rpartition("/")[2]
    assert postgres.execute("select to_regclass('t')", other) == [(None,)]


def test_a_wrong_password_is_refused(postgres: PostgresServer, postgres_url: str) -> None:
    import psycopg2

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres_url.replace(postgres.password, "wrong"))
