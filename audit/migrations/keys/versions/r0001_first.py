"""First revision of the keys database.

There is no way down: an audit schema is not thrown away by a migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "subject",
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id"),
    )
    op.create_table(
        "subject_lookup",
        sa.Column("lookup_hmac", sa.LargeBinary(32), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("key_ver", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lookup_hmac"),
    )
    op.create_index("ix_subject_lookup_subject_id", "subject_lookup", ["subject_id"])
    op.create_table(
        "subject_alias",
        sa.Column("from_id", sa.LargeBinary(16), nullable=False),
        sa.Column("to_id", sa.LargeBinary(16), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("from_id"),
    )
    op.create_index("ix_subject_alias_to_id", "subject_alias", ["to_id"])
    op.create_table(
        "subject_key",
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False),
        sa.Column("kek_epoch", sa.Integer(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("subject_id", "class"),
    )
    op.create_index("ix_subject_key_kek_epoch", "subject_key", ["kek_epoch"])
    op.create_table(
        "record_key",
        sa.Column("record_id", sa.LargeBinary(16), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("key_id", sa.LargeBinary(16), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("record_id", "class"),
    )
    op.create_index("ix_record_key_subject_id", "record_key", ["subject_id"])
    op.create_table(
        "principal",
        sa.Column("principal_id", sa.LargeBinary(16), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id"),
    )
    op.create_table(
        "principal_lookup",
        sa.Column("lookup_hmac", sa.LargeBinary(32), nullable=False),
        sa.Column("principal_id", sa.LargeBinary(16), nullable=False),
        sa.Column("key_ver", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lookup_hmac"),
    )
    op.create_index(
        "ix_principal_lookup_principal_id", "principal_lookup", ["principal_id"]
    )
    op.create_table(
        "principal_alias",
        sa.Column("from_id", sa.LargeBinary(16), nullable=False),
        sa.Column("to_id", sa.LargeBinary(16), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("from_id"),
    )
    op.create_index("ix_principal_alias_to_id", "principal_alias", ["to_id"])
    op.create_table(
        "kek_epoch",
        sa.Column("epoch", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("epoch"),
    )
    op.create_table(
        "shred_log",
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("class", sa.SmallInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
    )
    op.create_table(
        "console_user",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("totp_wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("kek_epoch", sa.Integer(), nullable=False),
        sa.Column("totp_last_step", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until_us", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
