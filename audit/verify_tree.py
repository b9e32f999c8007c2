"""Keyless check of the tree: leaves against rows, roots against every checkpoint.

Rules and the attacks they answer:

1. Leaves number without a gap and each is the hash of a row that is still there (a
   sealed row that was replaced or removed).
2. The root is recomputed at every size that was ever signed, in the database or the
   anchor file, and compared by hash, not by length (a suffix rewritten).
3. No two anchored checkpoints of one size differ (two histories for two readers).
4. Checkpoints are signed by a trusted node and chained (made up or removed).
5. Each anchored stream is in the database or still in the local journal (a whole
   stream and its registry row dropped).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, and_, select

from audit import tables
from audit.anchors import Anchor, AnchoredCheckpoint, AnchoredStream
from audit.chain import ABSENT, Checkpoint, Opening, is_signed
from audit.findings import FindingKind, VerifyReport
from audit.merkle import EMPTY_ROOT, Frontier, leaf_hash
from audit.verify_streams import CHUNK, Tick


@dataclass(slots=True)
class Anchored:
    """The anchor file, read before the snapshot was taken."""

    roots: dict[int, dict[bytes, int]] = field(default_factory=dict)  # size->root->line
    digests: dict[bytes, int] = field(default_factory=dict)  # checkpoint -> line
    streams: dict[bytes, AnchoredStream] = field(default_factory=dict)


def collect_anchors(
    anchors: Iterable[Anchor], trust: Mapping[bytes, bytes], report: VerifyReport
) -> Anchored:
    """Check the anchor lines themselves (rules 3 and 4) and index them."""
    found = Anchored()
    for anchor in anchors:
        report.anchors += 1
        where = f"line {anchor.line}"
        if isinstance(anchor, AnchoredStream):
            statement = anchor.opening.statement()
            node = trust.get(anchor.opening.node_id)
            if node and is_signed(node, anchor.node_sig, statement):
                found.streams[anchor.opening.stream_id] = anchor
            else:
                report.add(FindingKind.ANCHOR_ALTERED, detail=where)
        elif isinstance(anchor, AnchoredCheckpoint):
            checkpoint = anchor.checkpoint
            node = trust.get(anchor.node_id)
            if node is None or not is_signed(node, anchor.sig, checkpoint.message()):
                report.add(FindingKind.ANCHOR_ALTERED, detail=where)
                continue
            roots = found.roots.setdefault(checkpoint.tree_size, {})
            roots.setdefault(checkpoint.root, anchor.line)
            if len(roots) == 2:
                report.add(FindingKind.EQUIVOCATION, detail=where)
            found.digests[checkpoint.digest()] = anchor.line
        else:
            report.add(FindingKind.ANCHOR_ALTERED, detail=f"{where} is unreadable")
    return found


def check_anchored_streams(
    anchored: Anchored,
    streams: Mapping[bytes, tuple[Opening, bytes]],
    waiting: frozenset[bytes],
    report: VerifyReport,
) -> None:
    """Rule 5; ``waiting`` are streams whose journal file is not replayed yet."""
    for stream_id, anchor in anchored.streams.items():
        if stream_id in streams:
            if streams[stream_id][0] != anchor.opening:
                detail = f"differs from anchor line {anchor.line}"
                report.add(FindingKind.STREAM_ALTERED, stream_id, 0, detail=detail)
        elif stream_id not in waiting:
            detail = f"anchored in line {anchor.line}"
            report.add(FindingKind.STREAM_MISSING, stream_id, detail=detail)


def check_tree(
    connection: Connection,
    trust: Mapping[bytes, bytes],
    anchored: Anchored,
    report: VerifyReport,
    tick: Tick,
) -> None:
    """Rules 1, 2 and 4."""
    wanted = _check_checkpoints(connection, trust, anchored, report)
    for size, roots in anchored.roots.items():
        for value, line in roots.items():
            wanted.setdefault(size, {}).setdefault(value, f"anchor line {line}")
    tree = Frontier()
    _compare(0, EMPTY_ROOT, wanted, report)
    sealed: dict[bytes, int] = {}
    leaf, record = tables.audit_leaf, tables.audit_record
    same = and_(leaf.c.stream_id == record.c.stream_id, leaf.c.seq == record.c.seq)
    query = (
        select(leaf, record.c.row_hash)
        .outerjoin_from(leaf, record, same)
        .order_by(leaf.c.leaf_index)
    )
    for row in connection.execution_options(yield_per=CHUNK).execute(query):
        tick(1)
        index, stream_id, seq, stored, hashed = row
        _check_leaf(index, tree.size, stream_id, seq, sealed, report)
        if hashed is None:
            detail = f"sealed as leaf {index}"
            report.add(FindingKind.ROWS_MISSING, stream_id, seq, seq, detail)
        elif leaf_hash(hashed) != stored:
            detail = f"leaf {index} is not the hash of its row"
            report.add(FindingKind.LEAF_ALTERED, stream_id, seq, detail=detail)
        tree.append(stored)
        if tree.size in wanted:
            _compare(tree.size, tree.root(), wanted, report)
    report.leaves = tree.size
    report.unsealed = max(report.records - tree.size, 0)
    for size, sources in sorted(wanted.items()):
        names = ", ".join(sources.values())
        detail = f"{size} leaves in {names}, {tree.size} are left"
        report.add(FindingKind.TREE_TRUNCATED, detail=detail)


def _check_leaf(
    index: int,
    expected: int,
    stream_id: bytes,
    seq: int,
    sealed: dict[bytes, int],
    report: VerifyReport,
) -> None:
    """Rule 1: both numberings run on."""
    if index != expected:
        detail = f"leaf {index} where {expected} should be"
        report.add(FindingKind.LEAF_ALTERED, stream_id, seq, detail=detail)
    if seq != sealed.get(stream_id, -1) + 1:
        detail = f"leaf {index} is out of order"
        report.add(FindingKind.LEAF_ALTERED, stream_id, seq, detail=detail)
    sealed[stream_id] = seq


def _compare(
    size: int, root: bytes, wanted: dict[int, dict[bytes, str]], report: VerifyReport
) -> None:
    """Rule 2."""
    for value, source in wanted.pop(size, {}).items():
        if value != root:
            detail = f"root of {size} leaves differs from {source}"
            report.add(FindingKind.TREE_ALTERED, detail=detail)


def _check_checkpoints(
    connection: Connection,
    trust: Mapping[bytes, bytes],
    anchored: Anchored,
    report: VerifyReport,
) -> dict[int, dict[bytes, str]]:
    """Rule 4; returns the roots that the database's checkpoints claim, by size."""
    table = tables.audit_checkpoint
    wanted: dict[int, dict[bytes, str]] = {}
    missing = dict(anchored.digests)
    prev = ABSENT
    query = select(table).order_by(table.c.created_us, table.c.tree_size)
    for row in connection.execution_options(yield_per=CHUNK).execute(query):
        report.checkpoints += 1
        checkpoint = Checkpoint(*row[:7])
        where = f"checkpoint of {checkpoint.created_us}"
        node = trust.get(row.node_id)
        if node is None or not _is_signed(node, row.sig, checkpoint):
            report.add(FindingKind.CHECKPOINT_ALTERED, detail=where)
            continue
        if checkpoint.prev != prev:
            detail = f"{where} does not follow the one before"
            report.add(FindingKind.CHECKPOINT_MISSING, detail=detail)
        prev = checkpoint.digest()
        missing.pop(prev, None)
        roots = wanted.setdefault(checkpoint.tree_size, {})
        roots.setdefault(checkpoint.root, where)
    for line in missing.values():
        detail = f"anchored in line {line}"
        report.add(FindingKind.CHECKPOINT_MISSING, detail=detail)
    return wanted


def _is_signed(node: bytes, sig: bytes, checkpoint: Checkpoint) -> bool:
    try:
        return is_signed(node, sig, checkpoint.message())
    except (struct.error, TypeError):
        return False
