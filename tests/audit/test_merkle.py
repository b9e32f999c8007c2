"""RFC 6962 trees: the reference vectors, and proofs checked against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_path,
    is_consistent,
    leaf_hash,
    root,
    root_from_path,
)

# Inputs and roots of the certificate-transparency reference implementation.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(value) for value in INPUTS]


@pytest.mark.parametrize("size", range(1, 9))
def test_reference_roots(size: int) -> None:
    assert root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_empty_tree_is_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT == Frontier().root()
    assert EMPTY_ROOT.hex().startswith("e3b0c44298fc1c14")


def _leaves(count: int) -> list[bytes]:
    return [leaf_hash(bytes([n])) for n in range(count)]


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))
)
def test_every_leaf_has_a_path_that_only_fits_itself(case: tuple[int, int]) -> None:
    size, index = case
    leaves = _leaves(size)
    path = inclusion_path(index, leaves)
    assert root_from_path(leaves[index], index, size, path) == root(leaves)
    assert root_from_path(leaf_hash(b"other"), index, size, path) != root(leaves)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_prefixes_are_consistent_and_rewrites_are_not(case: tuple[int, int]) -> None:
    old, new = case
    leaves = _leaves(new)
    proof = consistency_proof(old, leaves)
    before, after = root(leaves[:old]), root(leaves)
    assert is_consistent(old, before, new, after, proof)
    assert not is_consistent(old, leaf_hash(b"x"), new, after, proof)
    rewritten = root([leaf_hash(b"x"), *leaves[1:]])
    if new > 1 or old < new:
        assert not is_consistent(old, before, new, rewritten, proof)


@given(
    st.integers(2, 40).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n)))
)
def test_a_proof_must_be_used_up_exactly(case: tuple[int, int]) -> None:
    old, new = case
    leaves = _leaves(new)
    proof = consistency_proof(old, leaves)
    before, after = root(leaves[:old]), root(leaves)
    assert not is_consistent(old, before, new, after, [*proof, EMPTY_ROOT])
    assert not is_consistent(old, before, new, after, proof[:-1])
    path = inclusion_path(0, leaves)
    with pytest.raises(ValueError, match="too long"):
        root_from_path(leaves[0], 0, new, [*path, EMPTY_ROOT])
    with pytest.raises(ValueError, match="too short"):
        root_from_path(leaves[0], 0, new, path[:-1])


def test_places_outside_the_tree_are_errors() -> None:
    with pytest.raises(IndexError):
        inclusion_path(3, LEAVES[:3])
    with pytest.raises(ValueError):
        root_from_path(LEAVES[0], 3, 3, [])
    with pytest.raises(ValueError):
        consistency_proof(0, LEAVES)
    assert not is_consistent(3, EMPTY_ROOT, 2, EMPTY_ROOT, [])
    assert not is_consistent(3, EMPTY_ROOT, 5, EMPTY_ROOT, [])


def test_a_copied_frontier_grows_alone() -> None:
    tree = Frontier()
    tree.append(LEAVES[0])
    twin = tree.copy()
    twin.append(LEAVES[1])
    assert tree.root() == LEAVES[0]
    assert twin.root().hex() == ROOTS[1]
