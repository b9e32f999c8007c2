"""Verification of the whole log, without any secret key.

Rules:

1. The anchors are read first, then the journal folder, then one database snapshot:
   whatever the first two name is in the snapshot, so writers at work never look like
   tampering (harm: false alarms).
2. "Tampered" and "could not check" are different answers (exit codes 2 and 3).
3. What was not checked is said.

Example:
    >>> report = verify(read_settings())
    >>> report.verified, report.findings  # doctest: +SKIP
    (True, [])
"""

from __future__ import annotations

import struct
import sys

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from audit import tables
from audit.anchors import Anchor, read_anchors
from audit.database import open_snapshot
from audit.errors import AuditConfigurationError, JournalError, UncheckableError
from audit.findings import Finding, FindingKind, VerifyReport
from audit.journal import pending
from audit.key_files import read_trust
from audit.settings import AuditSettings
from audit.verify_streams import check_streams
from audit.verify_tree import check_anchored_streams, check_tree, collect_anchors

__all__ = ["Finding", "FindingKind", "VerifyReport", "verify"]

SETTING = "TRIVIUM_AUDIT_URL"


def verify(settings: AuditSettings, progress: bool | None = None) -> VerifyReport:
    """Check everything that is stored against everything that was signed.

    Args:
        settings: where things are; neither key database nor secret keys are used.
        progress: show a bar; when left out, only on a terminal.

    Raises:
        UncheckableError: something that must be read cannot be read.
    """
    report = VerifyReport()
    try:
        trust = read_trust(settings.trust_file)
    except AuditConfigurationError as exc:
        raise UncheckableError(str(exc)) from exc
    # Rule 1: this order.
    anchored = collect_anchors(_anchors(settings, report), trust, report)
    waiting = _waiting(settings, report)
    engine = open_snapshot(settings.url, setting=SETTING, table="audit_record")
    show = sys.stderr.isatty() if progress is None else progress
    try:
        with engine.begin() as connection:
            count = select(func.count()).select_from(tables.audit_record)
            total = 2 * (connection.scalar(count) or 0) if show else None
            with tqdm(total=total, unit=" rows", disable=not show) as bar:
                streams = check_streams(connection, trust, report, bar.update)
                check_anchored_streams(anchored, streams, waiting, report)
                check_tree(connection, trust, anchored, report, bar.update)
    except SQLAlchemyError as exc:
        raise UncheckableError(f"{SETTING}: cannot be read") from exc
    except (TypeError, ValueError, struct.error):
        # Attack: a value of another type, to make the verifier fall over.
        detail = "a stored value has a type that nobody writes; stopped there"
        report.add(FindingKind.ROW_ALTERED, detail=detail)
        report.not_checked.append("everything behind the value of a wrong type")
    finally:
        engine.dispose()
    # Attack: take away what lies outside together with what lies inside. The newest
    # checkpoint may be on its way to the anchors; the one before it is there.
    if report.checkpoints > 1 and not settings.checkpoints.exists():
        detail = "checkpoints exist, their anchors are gone"
        report.add(FindingKind.ANCHOR_MISSING, detail=detail)
    if report.unsealed:
        report.not_checked.append(
            f"{report.unsealed} newest records are signed but not yet anchored"
        )
    return report


def _anchors(settings: AuditSettings, report: VerifyReport) -> list[Anchor]:
    if not settings.checkpoints.exists():
        report.not_checked.append("there is no anchor file")
        return []
    return list(read_anchors(settings.checkpoints))


def _waiting(settings: AuditSettings, report: VerifyReport) -> frozenset[bytes]:
    """Streams whose records are still in the local journal."""
    if not settings.journal.is_dir():
        report.not_checked.append("there is no journal folder")
        return frozenset()
    try:
        names = [path.stem for path in pending(settings.journal)]
        waiting = frozenset(bytes.fromhex(name) for name in names)
    except (JournalError, ValueError) as exc:
        raise UncheckableError("journal folder cannot be read") from exc
    report.pending_journals = len(waiting)
    if waiting:
        report.not_checked.append(f"{len(waiting)} journal streams are not replayed")
    return waiting
