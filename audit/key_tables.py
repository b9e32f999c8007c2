"""The key schema, in a database of its own: the only mutable personal data.

Immutable evidence rows hold random ids; what leads from a person to an id, and what
opens that person's envelopes, is here and can be destroyed.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
)

metadata = MetaData()

LIVE = 1  # subject.state; the other states belong to erasure
ALIAS_PROVISIONAL = 1  # id given while the key database was down


def _lookup(name: str, target: str) -> Table:
    return Table(
        name,
        metadata,
        Column("lookup_hmac", LargeBinary(32), primary_key=True),
        Column(target, LargeBinary(16), nullable=False, index=True),
        Column("key_ver", SmallInteger, nullable=False),
    )


def _alias(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("from_id", LargeBinary(16), primary_key=True),
        Column("to_id", LargeBinary(16), nullable=False, index=True),
        Column("reason", SmallInteger, nullable=False),
    )


subject = Table(
    "subject",
    metadata,
    Column("subject_id", LargeBinary(16), primary_key=True),
    Column("state", SmallInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
subject_lookup = _lookup("subject_lookup", "subject_id")
subject_alias = _alias("subject_alias")
subject_key = Table(
    "subject_key",
    metadata,
    Column("subject_id", LargeBinary(16), nullable=False),
    Column("class", SmallInteger, nullable=False),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("kek_epoch", Integer, nullable=False, index=True),
    Column("wrapped", LargeBinary),
    Column("created_us", BigInteger, nullable=False),
    Column("destroyed_us", BigInteger),
    PrimaryKeyConstraint("subject_id", "class"),
)
record_key = Table(
    "record_key",
    metadata,
    Column("record_id", LargeBinary(16), nullable=False),
    Column("class", SmallInteger, nullable=False),
    Column("subject_id", LargeBinary(16), nullable=False, index=True),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("wrapped", LargeBinary),
    PrimaryKeyConstraint("record_id", "class"),
)
principal = Table(
    "principal",
    metadata,
    Column("principal_id", LargeBinary(16), primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
principal_lookup = _lookup("principal_lookup", "principal_id")
principal_alias = _alias("principal_alias")
kek_epoch = Table(
    "kek_epoch",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("provider", String(64), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("destroyed_us", BigInteger),
)
shred_log = Table(
    "shred_log",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("subject_id", LargeBinary(16), nullable=False),
    Column("class", SmallInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
console_user = Table(
    "console_user",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(32), nullable=False),
    Column("password_hash", String(256), nullable=False),
    Column("totp_wrapped", LargeBinary, nullable=False),
    Column("kek_epoch", Integer, nullable=False),
    Column("totp_last_step", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until_us", BigInteger, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
