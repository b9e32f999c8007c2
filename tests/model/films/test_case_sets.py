"""Case sets: what a film may be asked, who shares a film, whose film is another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.errors import ConfigurationError
from model.films.case_sets import (
    SIDES,
    CaseSet,
    drawn_set,
    joined_set,
    of_joined,
    shuffled_films,
    together,
)
from model.films.folder import KERMANY, FilmFolder
from model.films.joined_cases import joined_cases
from model.synthetic.latents import Split

GRID = (4, 4)


@pytest.fixture(scope="module")
def joined(folder: FilmFolder) -> CaseSet:
    return joined_set(folder, "train", size=32, grid=GRID, copies=2, seed=5)


@pytest.fixture(scope="module")
def drawn() -> CaseSet:
    return drawn_set(12, 5, Split.TRAIN, GRID, sparse=0.5)


@pytest.fixture(scope="module")
def both(joined: CaseSet, drawn: CaseSet) -> CaseSet:
    return together(joined, drawn)


def pixels(cases: CaseSet, row: int) -> np.ndarray:
    return cases.data.records[row].images[0].pixels


def test_copies_of_a_film_share_its_number_and_its_pixels(joined: CaseSet) -> None:
    films = len(joined) // 2
    assert len(joined.one_of_each_film()) == films
    for row in (0, 3, films - 1):
        other = row + films
        assert joined.film[row] == joined.film[other]
        assert np.array_equal(pixels(joined, row), pixels(joined, other))
        assert joined.cases[row].note.text != joined.cases[other].note.text
        assert joined.patients[row] == joined.patients[other]


def test_a_film_is_asked_only_what_its_sort_can_answer(both: CaseSet) -> None:
    shows, severity, pattern = both.film_questions()
    assert set(shows.target[both.real]) == {0, 1}
    assert set(shows.target[~both.real]) == {-1}
    for question in (severity, pattern):
        assert set(question.target[both.real]) == {-1}
        assert set(question.target[~both.real]) <= {0, 1, 2}
    drawn = [case for case, real in zip(both.cases, both.real) if not real]
    wanted = [case.latents.seen_severity[0] for case in drawn]
    assert severity.target[~both.real].tolist() == wanted


def test_lesions_are_boxes_of_what_the_film_shows_or_the_generators_mask(
    both: CaseSet, folder: FilmFolder
) -> None:
    joined = joined_cases(folder, "train", size=32, copies=2, seed=5)
    with_box = [
        any(row.findings.get(b.label) == 1 for b in row.boxes) for row in joined.rows
    ]
    covered = both.lesion[both.real].any(1)
    assert covered.tolist() == [with_box[number] for number in joined.number]
    assert 0 < covered.mean() < 1
    for case, lesion in zip(both.cases, both.lesion):
        if not case.case_id.startswith("film-"):
            down, across = np.argwhere(case.mask).mean(0) / len(case.mask)
            assert lesion.reshape(GRID)[int(down * 4), int(across * 4)] == 1


def test_drawn_films_have_every_side_and_some_charts_are_cut_down(
    drawn: CaseSet,
) -> None:
    assert [pixels(drawn, row).shape[0] for row in range(3)] == list(SIDES)
    shorter = [
        len(record.values) < len(case.values)
        for record, case in zip(drawn.data.records, drawn.cases)
    ]
    assert 0 < sum(shorter) < len(drawn)
    assert len({case.case_id for case in drawn.cases}) == len(drawn)
    whole = drawn_set(3, 5, Split.TRAIN, GRID, sparse=0.0)
    assert [len(r.values) for r in whole.data.records] == [
        len(case.values) for case in whole.cases
    ]


def test_together_keeps_films_and_patients_apart(
    both: CaseSet, joined: CaseSet, drawn: CaseSet
) -> None:
    assert len(both) == len(joined) + len(drawn)
    for numbers in (both.film, both.patients):
        assert not set(numbers[both.real]) & set(numbers[~both.real])
    assert len(both.one_of_each_film()) == len(joined) // 2 + len(drawn)
    assert [f.name for f in both.data.questions("text")] == ["severity", "pattern"]
    assert len(both.data.questions("text")[0].target) == len(both)
    part = both.subset(np.array([0, len(joined) // 2, len(both) - 1]))
    assert part.film.tolist() == [0, 0, 1]
    assert part.real.tolist() == [True, True, False]


def test_a_share_of_the_real_films_is_another_patients(both: CaseSet) -> None:
    assert np.array_equal(shuffled_films(both, 0.0, 1), both.film)
    film = shuffled_films(both, 0.5, 1)
    changed = film != both.film
    assert not changed[~both.real].any()
    assert 0.3 < changed[both.real].mean() < 0.6
    assert set(film[both.real]) <= set(both.film[both.real])
    assert np.array_equal(film, shuffled_films(both, 0.5, 1))
    assert not np.array_equal(film, shuffled_films(both, 0.5, 2))


def test_a_box_of_a_finding_that_does_not_count_is_no_lesion(
    folder: FilmFolder,
) -> None:
    joined = joined_cases(folder, "train", size=32, copies=1, seed=5)
    boxed = next(row for row in joined.rows if row.boxes)
    other = replace(boxed, boxes=tuple(replace(b, label="Mass") for b in boxed.boxes))
    rows = [other if row is boxed else row for row in joined.rows]
    plain = of_joined(joined, GRID).lesion
    changed = of_joined(replace(joined, rows=rows), GRID).lesion
    place = [row is boxed for row in joined.rows]
    assert plain[place].any() and not changed[place].any()


def test_a_split_without_eligible_films_is_refused(folder: FilmFolder) -> None:
    children = replace(folder, rows=folder.select(KERMANY))
    with pytest.raises(ConfigurationError):
        joined_set(children, "train", size=32, grid=GRID, copies=1, seed=5)
