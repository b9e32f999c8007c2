"""Sparse charts are ordinary: fewer values, shorter notes, no made-up content."""

from __future__ import annotations

from dataclasses import replace

from model.synthetic import Split, generate
from model.synthetic.emit import to_record
from model.training.sparse import sparse_copies

RECORDS = [to_record(case) for case in generate(60, 5, split=Split.DEMO)]


def test_copies_hold_a_part_of_the_record_and_nothing_else() -> None:
    for full, copy in zip(RECORDS, sparse_copies(RECORDS, 1)):
        assert set(copy.values) <= set(full.values) and copy.values
        assert set(copy.notes[0].text.split()) <= set(full.notes[0].text.split())
        assert copy.notes[0].text.strip()
        assert copy.images is full.images
        assert copy.patient.birth_date in (None, full.patient.birth_date)


def test_every_size_occurs_and_a_seed_repeats_itself() -> None:
    copies = sparse_copies(RECORDS, 1)
    sizes = {len(copy.values) for copy in copies}
    assert min(sizes) <= 2 and max(sizes) >= 9
    assert {c.patient.sex for c in copies} >= {None}
    again = sparse_copies(RECORDS, 1)
    assert [c.notes[0].text for c in copies] == [c.notes[0].text for c in again]
    assert [c.values for c in copies] != [c.values for c in sparse_copies(RECORDS, 2)]


def test_a_record_without_values_or_words_stays_as_it_is() -> None:
    empty = replace(
        RECORDS[0], values=(), notes=(replace(RECORDS[0].notes[0], text=" "),)
    )
    (copy,) = sparse_copies([empty], 1)
    assert copy.values == () and copy.notes == empty.notes
