"""Films that teach, choose and test never share a patient."""

from __future__ import annotations

from model.films.folder import KERMANY, NIH, FilmFolder, assert_patient_wise
from model.films.parts import official_parts, parts_of


def test_the_official_split_keeps_its_patients_apart(folder: FilmFolder) -> None:
    parts = official_parts(folder)
    sides = {
        row.image: k
        for k, part in enumerate((parts.train, parts.val, parts.test))
        for row in part
    }
    rows = [*parts.train, *parts.val, *parts.test]
    assert_patient_wise(rows, lambda row: str(sides[row.image]))
    assert {row.official for row in parts.test} == {"test"}
    assert {row.official for row in (*parts.train, *parts.val)} == {"train_val"}
    assert parts.train and parts.val and len(rows) == len(folder.select(NIH))
    assert official_parts(folder).val == parts.val


def test_the_folders_own_split_is_taken_as_it_is(folder: FilmFolder) -> None:
    parts = parts_of(folder, KERMANY)
    assert parts.test == folder.select(KERMANY, "test") and parts.source == KERMANY
    assert {row.split for row in parts.train} == {"train"}
