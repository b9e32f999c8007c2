"""The job store: claim check, state and lease. It is the truth, the broker is not.

Rules that this module enforces:

1. Single flight: one live job per result key (deadline contract L7).
2. A claim is one UPDATE: of all workers that try, one gets the lease token. A lease
   that was not renewed in time can be claimed again, so a killed worker loses no job.
3. First result wins: complete and fail need the current lease token and a running job;
   whoever comes later is told so and discarded.
4. A job that keeps killing its workers ends after ``max_attempts`` claims.
5. Payloads and results are sealed (``cipher.py``) before they reach the database, under
   the columns that say whose they are (attack: two rows' result keys are swapped, and
   one patient's estimate stands on the other's card).
6. Lives are bounded (TM-I3). A payload without a result dies with the job after
   ``job_ttl_s``; a failed job drops its payload at once. Beside a result the payload
   stays, sealed as before, until ``result_ttl_s`` has passed: the evidence page shows
   the film and the note from it, and an EHR's access token is never kept to read them
   again. Erasure of a patient deletes both at once.

States: queued -> running -> ready | failed, and running -> running by a new claim.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, and_, case, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from model.errors import JobStoreUnavailableError, JobTamperedError, UnknownJobError
from model.jobs.cipher import PayloadCipher
from model.jobs.database import Database
from model.jobs.job import Claim, Job, Lives, NewJob
from model.jobs.tables import FAILED, JOBS, QUEUED, READY, RUNNING

PAYLOAD, RESULT = "payload", "result"
LIVE_STATES = (QUEUED, RUNNING, READY)
UNFINISHED = (QUEUED, RUNNING)
# In the order of ``NewJob.columns``.
_SEALED_IN = (
    JOBS.c.result_key,
    JOBS.c.tenant,
    JOBS.c.patient_index,
    JOBS.c.model_sha256,
)
_COLUMNS = [JOBS.c[name] for name in Job.__dataclass_fields__]


class JobStore:
    """Jobs in one database; thread-safe, opened anew by each process."""

    def __init__(
        self,
        url: str,
        cipher: PayloadCipher,
        *,
        lives: Lives = Lives(),
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the database; ``clock`` gives seconds since 1970.

        Raises:
            ConfigurationError: a URL of another kind.
            JobStoreUnavailableError: the database does not answer.
        """
        self._database = Database(url, timeout_s)
        self._cipher = cipher
        self._lives = lives
        self._clock = clock

    def find(self, result_key: str) -> Job | None:
        """The live job of a result key, else the newest failed one, None if none."""
        found = select(*_COLUMNS).where(
            JOBS.c.result_key == result_key, JOBS.c.expires_us > self._now()
        )
        failed_last = case((JOBS.c.state == FAILED, 1), else_=0)
        return self._one(found.order_by(failed_last, JOBS.c.created_us.desc()))

    def get(self, job_id: str) -> Job | None:
        """One job by its id, None when unknown or expired."""
        return self._one(
            select(*_COLUMNS).where(
                JOBS.c.job_id == job_id, JOBS.c.expires_us > self._now()
            )
        )

    def submit(self, new: NewJob) -> tuple[Job, bool]:
        """Store one job; returns it and True, or the live one it joins and False."""
        live = self._live(new.result_key)
        if live is not None:
            return live, False
        job_id, now = uuid.uuid4().hex, self._now()
        row: dict[str, Any] = {
            "job_id": job_id,
            "result_key": new.result_key,
            "tenant": new.tenant,
            "patient_index": new.patient_index,
            "model_sha256": new.model_sha256,
            "state": QUEUED,
            "payload": self._cipher.seal(job_id, PAYLOAD, new.payload, *new.columns()),
            "attempts": 0,
            "lease_until_us": 0,
            "created_us": now,
            "sent_us": now,
            "expires_us": now + _us(self._lives.job_ttl_s),
        }
        expired = and_(JOBS.c.result_key == new.result_key, JOBS.c.expires_us <= now)
        try:
            with self._database.write() as connection:
                connection.execute(delete(JOBS).where(expired))
                connection.execute(insert(JOBS).values(**row))
        except IntegrityError as exc:
            # Another process inserted between our look and our insert: join it.
            live = self._live(new.result_key)
            if live is None:
                raise JobStoreUnavailableError("the job was not stored") from exc
            return live, False
        return _job(row), True

    def claim(self, job_id: str, model_sha256: str) -> Claim | None:
        """Take a job that is queued, or running with an expired lease.

        One UPDATE decides. A job for another model is left alone: in a rolling update
        a worker that has that model takes it. A job that used up its attempts fails.

        Returns:
            The claim with the decrypted payload; None when there is nothing to do.

        Raises:
            JobTamperedError: the payload does not authenticate; the job has failed.
        """
        now, token = self._now(), secrets.token_hex(16)
        free = and_(
            JOBS.c.job_id == job_id,
            JOBS.c.model_sha256 == model_sha256,
            JOBS.c.expires_us > now,
            _claimable(now),
        )
        exhausted = JOBS.c.attempts >= self._lives.max_attempts
        take = (
            update(JOBS)
            .where(free, ~exhausted)
            .values(
                state=RUNNING,
                attempts=JOBS.c.attempts + 1,
                lease_token=token,
                lease_until_us=now + _us(self._lives.lease_s),
            )
            .returning(JOBS.c.payload, JOBS.c.attempts, *_SEALED_IN)
        )
        with self._database.write() as connection:
            row = connection.execute(take).one_or_none()
            if row is None:
                over = self._failed("attempts_exhausted", now)
                connection.execute(update(JOBS).where(free, exhausted).values(over))
        if row is None:
            return None
        try:
            columns = _sealed_in(row)
            payload = self._cipher.open(job_id, PAYLOAD, row.payload, *columns)
        except JobTamperedError:
            self.fail(job_id, token, "job_tampered")
            raise
        return Claim(job_id, token, row.attempts, model_sha256, payload, columns)

    def renew(self, claim: Claim) -> bool:
        """Extend the lease; False when the claim has been lost to another."""
        until = self._now() + _us(self._lives.lease_s)
        return self._settle(claim.job_id, claim.lease_token, {"lease_until_us": until})

    def complete(self, claim: Claim, result: bytes, device: str) -> bool:
        """Store the result; False when another claim has taken over or finished."""
        return self._settle(
            claim.job_id,
            claim.lease_token,
            {
                "state": READY,
                "result": self._cipher.seal(
                    claim.job_id, RESULT, result, *claim.columns
                ),
                "device": device,
                "expires_us": self._now() + _us(self._lives.result_ttl_s),
            },
        )

    def fail(self, job_id: str, lease_token: str, code: str) -> bool:
        """End a claimed job with a typed code; its payload is dropped."""
        return self._settle(job_id, lease_token, self._failed(code, self._now()))

    def overdue(self, model_sha256: str | None = None) -> tuple[str, ...]:
        """Jobs whose message or worker was lost, oldest first, at most 100.

        Queued and not claimed ``unclaimed_s`` after the last message, or running with
        an expired lease.
        """
        now = self._now()
        waiting = and_(
            JOBS.c.state == QUEUED,
            JOBS.c.sent_us <= now - _us(self._lives.unclaimed_s),
        )
        abandoned = and_(JOBS.c.state == RUNNING, JOBS.c.lease_until_us < now)
        query = select(JOBS.c.job_id).where(
            or_(waiting, abandoned), JOBS.c.expires_us > now
        )
        if model_sha256 is not None:
            query = query.where(JOBS.c.model_sha256 == model_sha256)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(JOBS.c.created_us).limit(100))
            return tuple(rows.scalars())

    def note_sent(self, job_id: str) -> None:
        """Remember that a message was sent again, so that the next waits its turn."""
        with self._database.write() as connection:
            connection.execute(
                update(JOBS).where(JOBS.c.job_id == job_id).values(sent_us=self._now())
            )

    def payload(self, job_id: str) -> bytes:
        """The decrypted payload of a job.

        Raises:
            UnknownJobError: no such job, or it has failed or expired.
            JobTamperedError: it does not authenticate.
        """
        return self._open(job_id, PAYLOAD)

    def result(self, job_id: str) -> bytes:
        """The decrypted result of a ready job; raises like :meth:`payload`."""
        return self._open(job_id, RESULT)

    def purge_expired(self) -> int:
        """End unfinished jobs that ran out of time, delete what has expired.

        Returns:
            The number of rows that were failed or deleted.
        """
        now = self._now()
        late = and_(JOBS.c.expires_us <= now, JOBS.c.state.in_(UNFINISHED))
        over = and_(JOBS.c.expires_us <= now, JOBS.c.state.not_in(UNFINISHED))
        with self._database.write() as connection:
            deleted = connection.execute(delete(JOBS).where(over)).rowcount
            ended = connection.execute(
                update(JOBS).where(late).values(self._failed("expired", now))
            ).rowcount
        return int(deleted + ended)

    def erase_patient(self, patient_indexes: Sequence[str]) -> int:
        """Delete every job of one patient, results included; returns how many."""
        theirs = JOBS.c.patient_index.in_(patient_indexes)
        with self._database.write() as connection:
            erased = connection.execute(delete(JOBS).where(theirs)).rowcount
        self._database.truncate_log()
        return int(erased)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _live(self, result_key: str) -> Job | None:
        job = self.find(result_key)
        return job if job is not None and job.state in LIVE_STATES else None

    def _one(self, query: Any) -> Job | None:
        with self._database.read() as connection:
            row: Row[Any] | None = connection.execute(query.limit(1)).one_or_none()
        return None if row is None else _job(row._mapping)

    def _open(self, job_id: str, kind: str) -> bytes:
        query = select(JOBS.c[kind], *_SEALED_IN).where(
            JOBS.c.job_id == job_id, JOBS.c.expires_us > self._now()
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row[0] is None:
            raise UnknownJobError(f"job {job_id} has no {kind}")
        return self._cipher.open(job_id, kind, bytes(row[0]), *_sealed_in(row))

    def _settle(self, job_id: str, token: str, values: dict[str, Any]) -> bool:
        """Change a running job, if the caller still holds its lease."""
        held = and_(
            JOBS.c.job_id == job_id,
            JOBS.c.lease_token == token,
            JOBS.c.state == RUNNING,
        )
        with self._database.write() as connection:
            changed = connection.execute(update(JOBS).where(held).values(values))
        return bool(changed.rowcount == 1)

    def _failed(self, code: str, now: int) -> dict[str, Any]:
        return {
            "state": FAILED,
            "error": code,
            "payload": None,
            "expires_us": now + _us(self._lives.job_ttl_s),
        }

    def _now(self) -> int:
        return _us(self._clock())


def _job(row: Any) -> Job:
    values: dict[str, Any] = {n: row.get(n) for n in Job.__dataclass_fields__}
    return Job(**values)


def _sealed_in(row: Any) -> tuple[str, ...]:
    return tuple(str(row._mapping[column.name]) for column in _SEALED_IN)


def _claimable(now: int) -> ColumnElement[bool]:
    abandoned = and_(JOBS.c.state == RUNNING, JOBS.c.lease_until_us < now)
    return or_(JOBS.c.state == QUEUED, abandoned)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)
