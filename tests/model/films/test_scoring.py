"""Scores over patients, and what needs no encoder."""

from __future__ import annotations

import numpy as np
import pytest

from model.films.baselines import person_table, pixel_table, read_off, rim
from model.films.folder import NIH, NO_FINDING, QUESTIONS, FilmFolder, answers
from model.films.scoring import (
    Scored,
    best_threshold,
    chance_of,
    counted,
    film_auroc,
    finding_row,
    mean_auroc,
    mean_decisions,
    mean_row,
    patients_of,
    plain,
    within,
)

NAN = float("nan")


def scored(n: int = 200, seed: int = 0) -> Scored:
    """Two questions: a good score and a coin."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, (n, 2)).astype(np.float32)
    logits = random.normal(size=(n, 2)) + truth * np.array([2.0, 0.0])
    return Scored(logits, truth, np.arange(n) // 2)


def test_a_gap_does_not_count() -> None:
    scores = np.array([0.1, 0.9, 0.2, 0.8])
    assert film_auroc(scores, np.array([0, 1, NAN, 1])) == 1.0
    assert np.isnan(film_auroc(scores, np.full(4, NAN)))
    assert np.isnan(mean_auroc(scores[:, None], np.zeros((4, 1)), without_none=False))


def test_no_finding_and_rare_findings_stay_out_of_the_mean() -> None:
    truth = np.zeros((50, 3), np.float32)
    truth[:20, 0] = truth[:19, 1] = truth[:40, 2] = 1
    assert counted(truth, ("A", "B", NO_FINDING)) == [0]
    assert counted(truth, ("A", "B", NO_FINDING), enough=19) == [0, 1]


def test_figures_of_a_finding_have_intervals_over_patients() -> None:
    cases = scored()
    row = finding_row(cases, 0, best_threshold(cases, 0), draws=50)
    found = row["auroc"]
    assert found["low"] < found["value"] < found["high"] and found["value"] > 0.85
    assert row["f1"] > 0.75 and row["n"] == 200
    flat = Scored(cases.logits, np.zeros_like(cases.truth), cases.patients)
    assert best_threshold(flat, 0) == 0.5


def test_the_mean_and_its_lead_are_paired() -> None:
    cases = scored()
    mean = mean_row(cases, [0, 1], draws=50)
    one = film_auroc(cases.logits[:, 0], cases.truth[:, 0])
    two = film_auroc(cases.logits[:, 1], cases.truth[:, 1])
    assert mean.value == pytest.approx((one + two) / 2)
    same = mean_row(cases, [0, 1], cases, draws=20)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    nothing = Scored(cases.logits, np.zeros_like(cases.truth), cases.patients)
    assert np.isnan(mean_row(nothing, [0], draws=5).low)


def test_a_score_that_tells_groups_apart_only_falls_to_chance() -> None:
    random = np.random.default_rng(1)
    group = random.integers(0, 2, 2000)
    truth = (random.random(2000) < np.where(group == 1, 0.8, 0.2)).astype(np.float32)
    shortcut = Scored(group[:, None] * 1.0, truth[:, None], np.arange(2000))
    names = [str(g) for g in group]
    assert within(shortcut, [0], ["all"] * 2000) > 0.75
    assert within(shortcut, [0], names) == 0.5
    assert np.isnan(within(shortcut, [0], [str(n) for n in range(2000)]))


def test_chances_do_not_overflow_and_gaps_are_null() -> None:
    assert chance_of(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
    assert plain(NAN) is None and plain(0.5) == 0.5


def test_baselines_read_pixels_rim_and_person(folder: FilmFolder) -> None:
    train, test = folder.select(NIH, "train"), folder.select(NIH, "test")
    wanted = answers(test, NIH)
    pixels = [pixel_table(folder, rows) for rows in (train, test)]
    assert pixels[0].shape[1] == 1024 and rim(pixels[0]).shape[1] == 348
    person = [person_table(rows) for rows in (train, test)]
    column = QUESTIONS[NIH].index("Effusion")
    found = {
        "rim": read_off(rim(pixels[0]), answers(train, NIH), [rim(pixels[1])])[0],
        "person": read_off(person[0], answers(train, NIH), person[1:])[0],
    }
    # The planted finding is never at the rim, and sex goes with it by construction.
    assert film_auroc(found["rim"][:, column], wanted[:, column]) < 0.8
    assert film_auroc(found["person"][:, column], wanted[:, column]) == 1.0
    assert (found["rim"][:, 0] == 0).all()  # one answer only: nothing is fitted
    assert len(set(patients_of(test).tolist())) == len(test)


def test_decisions_are_means_over_the_questions() -> None:
    tested, validation = scored(seed=1), scored(seed=2)
    both = mean_decisions(tested, validation, [0, 1])
    single = [mean_decisions(tested, validation, [q]) for q in (0, 1)]
    for name, value in both.items():
        parts = [row[name] for row in single]
        assert None not in parts and value is not None
        assert value == pytest.approx(np.mean([float(x or 0) for x in parts]))
    assert (single[0]["auprc"] or 0) > (single[1]["auprc"] or 0)
    nobody = Scored(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    assert mean_decisions(tested, nobody, [0])["accuracy"] != 0
    assert mean_decisions(tested, validation, [])["f1"] is None
