"""Runs the migrations of the keys database on the connection that is handed in."""

from __future__ import annotations

from alembic import context

from audit.key_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
