"""Migrations build exactly the schema that the code uses."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

from audit import key_tables, tables
from audit.database import open_engine
from audit.settings import AuditSettings


@pytest.mark.parametrize("schema", ["evidence", "keys"])
def test_the_migrated_schema_is_the_declared_one(
    settings: AuditSettings, schema: str
) -> None:
    url = settings.url if schema == "evidence" else settings.keys_url
    declared: MetaData = (tables if schema == "evidence" else key_tables).metadata
    engine = open_engine(url, setting="URL", busy_ms=1000)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, declared) == []
        assert context.get_current_revision() == "0001"
    engine.dispose()


def test_hashed_columns_are_integers_and_bytes_only() -> None:
    kinds = {
        type(column.type).__name__
        for table in tables.metadata.tables.values()
        for column in table.columns
    }
    assert kinds <= {"LargeBinary", "BigInteger", "Integer", "SmallInteger"}
