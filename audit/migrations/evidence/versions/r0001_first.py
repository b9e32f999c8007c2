"""First revision of the evidence database.

There is no way down: an audit schema is not thrown away by a migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "audit_stream",
    "audit_stream_end",
    "audit_record",
    "audit_batch",
    "audit_leaf",
    "audit_checkpoint",
)

_FUNCTION = """
CREATE FUNCTION trivium_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'append-only'; END $$
"""


def _reject_changes(table: str, dialect: str) -> None:
    """Reject UPDATE, DELETE and, where it exists, TRUNCATE on ``table``."""
    if dialect == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'append-only'); END"
            )
        return
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION trivium_append_only()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION trivium_append_only()"
    )


def upgrade() -> None:
    """Create the tables and the triggers that keep them append-only."""
    op.create_table(
        "audit_stream",
        sa.Column("stream_id", sa.LargeBinary(16), nullable=False),
        sa.Column("pubkey", sa.LargeBinary(32), nullable=False),
        sa.Column("node_id", sa.LargeBinary(32), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("prev_stream", sa.LargeBinary(16), nullable=True),
        sa.Column("clock_offset_us", sa.Integer(), nullable=False),
        sa.Column("clock_source", sa.SmallInteger(), nullable=False),
        sa.Column("build", sa.LargeBinary(64), nullable=False),
        sa.Column("node_sig", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("stream_id"),
    )
    op.create_table(
        "audit_stream_end",
        sa.Column("stream_id", sa.LargeBinary(16), nullable=False),
        sa.Column("final_seq", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("closed_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("sig", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("stream_id"),
    )
    op.create_table(
        "audit_record",
        sa.Column("stream_id", sa.LargeBinary(16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("record_id", sa.LargeBinary(16), nullable=False),
        sa.Column("ts_us", sa.BigInteger(), nullable=False),
        sa.Column("event_type", sa.SmallInteger(), nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("phase", sa.SmallInteger(), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=True),
        sa.Column("principal_id", sa.LargeBinary(16), nullable=False),
        sa.Column("web_session_ref", sa.LargeBinary(16), nullable=True),
        sa.Column("correlation_id", sa.LargeBinary(16), nullable=False),
        sa.Column("purpose", sa.SmallInteger(), nullable=False),
        sa.Column("lawful_basis", sa.SmallInteger(), nullable=False),
        sa.Column("model_ref", sa.LargeBinary(16), nullable=True),
        sa.Column("retain_until_day", sa.Integer(), nullable=False),
        sa.Column("evidence_blob", sa.LargeBinary(), nullable=True),
        sa.Column("clinical_blob", sa.LargeBinary(), nullable=True),
        sa.Column("prev_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("row_hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "seq"),
    )
    op.create_index("audit_record_correlation", "audit_record", ["correlation_id"])
    op.create_index("audit_record_principal", "audit_record", ["principal_id", "ts_us"])
    op.create_index("audit_record_subject", "audit_record", ["subject_id", "ts_us"])
    op.create_index("audit_record_ts", "audit_record", ["ts_us"])
    op.create_table(
        "audit_batch",
        sa.Column("stream_id", sa.LargeBinary(16), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("batch_root", sa.LargeBinary(32), nullable=False),
        sa.Column("sig", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "first_seq"),
    )
    op.create_table(
        "audit_leaf",
        sa.Column("leaf_index", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("stream_id", sa.LargeBinary(16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("leaf_index"),
        sa.UniqueConstraint("stream_id", "seq", name="audit_leaf_position"),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("prev", sa.LargeBinary(32), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("clock_offset_us", sa.Integer(), nullable=False),
        sa.Column("clock_source", sa.SmallInteger(), nullable=False),
        sa.Column("tombstone", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(32), nullable=False),
        sa.Column("sig", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("tree_size", "created_us"),
    )

    dialect = op.get_bind().dialect.name
    if dialect != "sqlite":
        op.execute(_FUNCTION)
    for table in APPEND_ONLY:
        _reject_changes(table, dialect)
