"""The one table of the job store, for SQLite and PostgreSQL alike.

What a row shows in the clear is about the job, never about the patient: the patient is
a keyed HMAC, payload and result are sealed. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

QUEUED, RUNNING, READY, FAILED = "queued", "running", "ready", "failed"

METADATA = MetaData()
JOBS = Table(
    "trivium_jobs",
    METADATA,
    Column("job_id", String(32), primary_key=True),
    Column("result_key", String(64), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("patient_index", String(64), nullable=False),
    Column("model_sha256", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("payload", LargeBinary),
    Column("result", LargeBinary),
    Column("error", String(64)),
    Column("device", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("lease_token", String(32)),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("sent_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)
LIVE = text("state IN ('queued', 'running', 'ready')")
INDEXES = (
    # Single flight (deadline contract L7): the database itself refuses a second live
    # job for one result, so two web processes cannot both win a race.
    Index(
        "trivium_jobs_single_flight",
        JOBS.c.result_key,
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    ),
    Index("trivium_jobs_overdue", JOBS.c.state, JOBS.c.sent_us),
    Index("trivium_jobs_patient", JOBS.c.patient_index),
    Index("trivium_jobs_expiry", JOBS.c.expires_us),
)
