"""The evidence schema: tables into which rows are inserted and never changed.

No text, date, JSON or floating-point column takes part in a hash, so no driver can
change one on its way back. Times are microseconds since 1970 UTC. Triggers, made by the
first migration, reject UPDATE, DELETE and TRUNCATE: they stop mistakes; the chain and
the anchors catch those who remove triggers.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

audit_stream = Table(
    "audit_stream",
    metadata,
    Column("stream_id", LargeBinary(16), primary_key=True),
    Column("pubkey", LargeBinary(32), nullable=False),
    Column("node_id", LargeBinary(32), nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("prev_stream", LargeBinary(16)),
    Column("clock_offset_us", Integer, nullable=False),
    Column("clock_source", SmallInteger, nullable=False),
    Column("build", LargeBinary(64), nullable=False),
    Column("node_sig", LargeBinary(64), nullable=False),
)

audit_stream_end = Table(
    "audit_stream_end",
    metadata,
    Column("stream_id", LargeBinary(16), primary_key=True),
    Column("final_seq", BigInteger, nullable=False),
    Column("head_hash", LargeBinary(32), nullable=False),
    Column("closed_us", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("sig", LargeBinary(64), nullable=False),
)

audit_record = Table(
    "audit_record",
    metadata,
    Column("stream_id", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("version", SmallInteger, nullable=False),
    Column("record_id", LargeBinary(16), nullable=False),
    Column("ts_us", BigInteger, nullable=False),
    Column("event_type", SmallInteger, nullable=False),
    Column("action", SmallInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("phase", SmallInteger, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("subject_id", LargeBinary(16)),
    Column("principal_id", LargeBinary(16), nullable=False),
    Column("web_session_ref", LargeBinary(16)),
    Column("correlation_id", LargeBinary(16), nullable=False),
    Column("purpose", SmallInteger, nullable=False),
    Column("lawful_basis", SmallInteger, nullable=False),
    Column("model_ref", LargeBinary(16)),
    Column("retain_until_day", Integer, nullable=False),
    Column("evidence_blob", LargeBinary),
    Column("clinical_blob", LargeBinary),
    Column("prev_hash", LargeBinary(32), nullable=False),
    Column("row_hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("stream_id", "seq"),
    Index("audit_record_subject", "subject_id", "ts_us"),
    Index("audit_record_principal", "principal_id", "ts_us"),
    Index("audit_record_ts", "ts_us"),
    Index("audit_record_correlation", "correlation_id"),
)

audit_batch = Table(
    "audit_batch",
    metadata,
    Column("stream_id", LargeBinary(16), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("head_hash", LargeBinary(32), nullable=False),
    Column("batch_root", LargeBinary(32), nullable=False),
    Column("sig", LargeBinary(64), nullable=False),
    PrimaryKeyConstraint("stream_id", "first_seq"),
)

audit_leaf = Table(
    "audit_leaf",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("stream_id", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("leaf_hash", LargeBinary(32), nullable=False),
    UniqueConstraint("stream_id", "seq", name="audit_leaf_position"),
)

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("tree_size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("prev", LargeBinary(32), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("clock_offset_us", Integer, nullable=False),
    Column("clock_source", SmallInteger, nullable=False),
    Column("tombstone", BigInteger, nullable=False),
    Column("node_id", LargeBinary(32), nullable=False),
    Column("sig", LargeBinary(64), nullable=False),
    PrimaryKeyConstraint("tree_size", "created_us"),
)
