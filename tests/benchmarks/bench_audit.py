"""What the audit log costs beside plain durable INSERTs of the same 2 kB events.

    python -m tests.benchmarks.bench_audit --json

Floor and product alternate within every repeat, so that noise from neighbours hits both
alike; ratios of medians are what counts. ``open_log(url)`` is the product behind the
interface ``append(events)``, ``close()`` that a floor comparison needs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.log import AuditLog
from audit.provision import initialise
from audit.settings import AuditSettings
from audit.verify import verify

COMMAND = "python -m tests.benchmarks.bench_audit --json"
PATIENTS, ACTORS = 200, 20
BODY = {"kind": "prediction", "scores": {f"c{n:03d}": n / 41 for n in range(40)}}
BODY["rationale"] = "r" * (2040 - len(orjson.dumps(BODY)))


def make_events(count: int) -> list[dict[str, Any]]:
    """Events as a floor comparison hands them over."""
    return [
        {
            "ts_us": time.time_ns() // 1000,
            "event_type": 1,
            "patient": random.randrange(PATIENTS),
            "actor": random.randrange(ACTORS),
            "body": BODY,
        }
        for _ in range(count)
    ]


class Candidate:
    """The product: encrypted, chained, signed."""

    def __init__(self, settings: AuditSettings) -> None:
        self._log = AuditLog.open(settings)

    def append(self, events: list[dict[str, Any]]) -> None:
        """Returns when all are durable."""
        self._log.append_many([_event(event) for event in events])

    def close(self) -> None:
        """Ends the stream."""
        self._log.close()


def _event(event: dict[str, Any]) -> AuditEvent:
    return AuditEvent(
        EventType.JOB_DONE,
        Action.EXECUTE,
        Outcome.OK,
        Phase.SINGLE,
        agent=Agent("human", "https://ehr.example/users", f"u-{event['actor']}"),
        subject=Subject("https://ehr.example/fhir", f"p-{event['patient']}"),
        purpose="TREAT",
        correlation_id=new_correlation_id(),
        evidence=event["body"],
    )


def settings_for(url: str) -> AuditSettings:
    """Keys and journal in a folder beside an SQLite file, or a temporary one."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        folder = Path(f"{parsed.database}.d")
    else:
        folder = Path(tempfile.gettempdir()) / f"trivium-bench-{parsed.database}"
    return AuditSettings(
        url=url,
        keys_url=f"sqlite:///{folder}/keys.db",
        kek_file=folder / "kek",
        index_key_file=folder / "index",
        node_key_file=folder / "node",
        journal=folder / "journal",
        checkpoints=folder / "anchors.jsonl",
        trust_file=folder / "node.pub",
        deadline_ms=60_000,
    )


def open_log(url: str) -> Candidate:
    """Factory for a floor comparison; sets the database up when it is new."""
    settings = settings_for(url)
    initialise(settings, if_missing=True)
    return Candidate(settings)


class Floor:
    """An unprotected audit table: clear columns, JSON payload, durable commits."""

    def __init__(self, url: str) -> None:
        self._table = sa.Table(
            "floor",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("ts_us", sa.BigInteger, nullable=False, index=True),
            sa.Column("event_type", sa.SmallInteger, nullable=False),
            sa.Column("patient", sa.LargeBinary(16), nullable=False, index=True),
            sa.Column("actor", sa.LargeBinary(16), nullable=False, index=True),
            sa.Column("payload", sa.LargeBinary, nullable=False),
        )
        self._engine = sa.create_engine(url)

        @sa.event.listens_for(self._engine, "connect")
        def configure(raw: Any, _record: object) -> None:
            raw.isolation_level = None
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                raw.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(self._engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        self._connection = self._engine.connect()
        with self._connection.begin():
            self._table.metadata.create_all(self._connection)

    def append(self, events: list[dict[str, Any]]) -> None:
        """One commit."""
        rows = [
            {
                "ts_us": event["ts_us"],
                "event_type": event["event_type"],
                "patient": event["patient"].to_bytes(16, "big"),
                "actor": event["actor"].to_bytes(16, "big"),
                "payload": orjson.dumps(event["body"]),
            }
            for event in events
        ]
        with self._connection.begin():
            self._connection.execute(
                self._table.insert(), rows if len(rows) > 1 else rows[0]
            )

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()
        self._engine.dispose()


def timed(log: Floor | Candidate, batch: int, seconds: float) -> tuple[float, float]:
    """Records a second and CPU microseconds a record."""
    rows, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        log.append(make_events(batch))
        rows += batch
    spent = time.process_time() - cpu
    return rows / (time.perf_counter() - start), spent / rows * 1e6


def compare(folder: Path, seconds: float, repeats: int) -> dict[tuple[str, int], Any]:
    """Medians of both subjects at batch 1 and 16, interleaved."""
    logs = {
        "floor": Floor(f"sqlite:///{folder}/floor.db"),
        "log": open_log(f"sqlite:///{folder}/log.db"),
    }
    # Warm up: every patient has keys, every statement is compiled.
    for start in range(0, PATIENTS, 20):
        events = make_events(20)
        for offset, event in enumerate(events):
            event["patient"], event["actor"] = start + offset, offset
        for log in logs.values():
            log.append(events)
    runs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for batch in (1, 16):
            for name, log in logs.items():
                runs.setdefault((name, batch), []).append(timed(log, batch, seconds))
    for log in logs.values():
        log.close()
    return {
        key: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for key, values in runs.items()
    }


def verification(folder: Path) -> tuple[float, bool]:
    """CPU microseconds a record, on a log of batches of 16; and its verdict."""
    url = f"sqlite:///{folder}/verified.db"
    log = open_log(url)
    for _ in range(200):
        log.append(make_events(16))
    log.close()
    settings, spent = settings_for(url), []
    for _ in range(3):
        start = time.process_time()
        report = verify(settings, progress=False)
        spent.append((time.process_time() - start) / report.records * 1e6)
    return statistics.median(spent), report.verified


def entry(name: str, value: float, unit: str, bar: str, holds: bool) -> dict[str, Any]:
    """One line of the result."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "bar": bar,
        "holds": holds,
        "command": COMMAND,
    }


def measure(folder: Path, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """All entries."""
    found = compare(folder, seconds, repeats)
    single = found["log", 1][0] / found["floor", 1][0]
    group = found["log", 16][0] / found["floor", 16][0]
    lift = found["log", 16][0] / found["floor", 1][0]
    cpu = found["log", 16][1] / found["floor", 16][1]
    check, intact = verification(folder)
    share = check / found["log", 16][1]
    return [
        entry("audit.single_commit_ratio", single, "x", ">= 0.85", single >= 0.85),
        entry("audit.group_commit_ratio", group, "x", ">= 0.7", group >= 0.7),
        entry("audit.group_to_single_plain_ratio", lift, "x", ">= 2", lift >= 2),
        entry("audit.cpu_per_record_ratio", cpu, "x", "<= 2.3", cpu <= 2.3),
        entry(
            "audit.verify_cpu_ratio",
            share,
            "x",
            "<= 0.25",
            share <= 0.25 and intact,
        ),
    ]


def main() -> int:
    """Print the entries; as text, returns 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where the files go (a real disk)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-audit-", dir=args.folder))
    try:
        entries = measure(folder, args.seconds, args.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        print(json.dumps(entries, indent=1))
        return 0
    for item in entries:
        mark = "holds" if item["holds"] else "DOES NOT HOLD"
        print(f"{item['name']:52} {item['value']:7} {item['bar']:8} {mark}")
    return 0 if all(item["holds"] for item in entries) else 1


if __name__ == "__main__":
    sys.exit(main())
