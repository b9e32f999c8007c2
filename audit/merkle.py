"""Merkle trees of RFC 6962 over 32-byte values; pure functions, no IO.

Rules:

1. Leaves and nodes are hashed under different prefixes, 0x00 and 0x01 (RFC 6962, 2.1;
   attack: passing a node off as a leaf, second preimage).
2. A tree splits at the largest power of two below its size (2.1), so that every prefix
   of the leaves is a tree whose root can be proved consistent with any later one
   (2.1.2; attack: rewriting what was already published).
3. A proof is valid only when it is used up exactly (attack: trailing elements that make
   one proof fit two trees).

Example:
    >>> leaves = [leaf_hash(row) for row in (b"a", b"b", b"c")]
    >>> path = inclusion_path(2, leaves)
    >>> root_from_path(leaves[2], 2, 3, path) == root(leaves)
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(value: bytes) -> bytes:
    """Hash of one leaf: SHA-256(0x00 | value)."""
    return sha256(b"\x00" + value).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 | left | right)."""
    return sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Largest power of two smaller than ``size`` (size > 1)."""
    return 1 << (size - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes; the empty tree has the hash of nothing (2.1)."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Siblings from leaf ``index`` up to the root (2.1.1).

    Raises:
        IndexError: there is no such leaf.
    """
    size = len(leaves)
    if not 0 <= index < size:
        raise IndexError(index)
    if size == 1:
        return []
    cut = _split(size)
    if index < cut:
        return [*inclusion_path(index, leaves[:cut]), root(leaves[cut:])]
    return [*inclusion_path(index - cut, leaves[cut:]), root(leaves[:cut])]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Root that ``leaf`` at ``index`` of ``size`` leaves would have with this path.

    Raises:
        ValueError: the path does not have the length that index and size demand.
    """
    if not 0 <= index < size:
        raise ValueError("index outside the tree")
    hashed, last, rest = leaf, size - 1, list(path)
    while last:
        if index & 1 or index != last:
            if not rest:
                raise ValueError("path too short")
            sibling = rest.pop(0)
            odd = bool(index & 1)
            hashed = node_hash(sibling, hashed) if odd else node_hash(hashed, sibling)
        index >>= 1
        last >>= 1
    # Rule 3: nothing may be left over.
    if rest:
        raise ValueError("path too long")
    return hashed


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Nodes that show the first ``old`` leaves to be a prefix of ``leaves`` (2.1.2).

    Raises:
        ValueError: ``old`` is not between 1 and the number of leaves.
    """
    if not 0 < old <= len(leaves):
        raise ValueError("old size outside the tree")
    return _subproof(old, leaves, True)


def _subproof(old: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    size = len(leaves)
    if old == size:
        return [] if whole else [root(leaves)]
    cut = _split(size)
    if old <= cut:
        return [*_subproof(old, leaves[:cut], whole), root(leaves[cut:])]
    return [*_subproof(old - cut, leaves[cut:], False), root(leaves[:cut])]


def is_consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether ``proof`` shows the old tree to be a prefix of the new one (RFC 9162)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    nodes = list(proof)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    low, last = old - 1, new - 1
    while low & 1:
        low >>= 1
        last >>= 1
    first = second = nodes.pop(0)
    for node in nodes:
        if last == 0:
            return False
        if low & 1 or low == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while low and not low & 1:
                low >>= 1
                last >>= 1
        else:
            second = node_hash(second, node)
        low >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


class Frontier:
    """A tree that only grows; keeps one hash per level, so memory is logarithmic."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []  # (height, hash), high to low

    def copy(self) -> Frontier:
        """An independent tree with the same leaves."""
        twin = Frontier()
        twin.size, twin._peaks = self.size, list(self._peaks)
        return twin

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        height, hashed = 0, leaf
        while self._peaks and self._peaks[-1][0] == height:
            hashed = node_hash(self._peaks.pop()[1], hashed)
            height += 1
        self._peaks.append((height, hashed))
        self.size += 1

    def root(self) -> bytes:
        """Root of all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        hashed = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            hashed = node_hash(peak, hashed)
        return hashed
