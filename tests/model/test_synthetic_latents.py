"""Latents of synthetic cases: reproducible, and drawn from the stated model."""

from __future__ import annotations

import numpy as np
import pytest

from model.synthetic.latents import (
    LATIN_SQUARE,
    PARAMETERS,
    Latents,
    Severity,
    Split,
    draw_latents,
    generator,
    parameter_set,
    pattern_confusion,
    severity_confusion,
)

N = 60_000
# Four standard errors of a proportion of one half among N.
TOLERANCE = 4 * 0.5 / N**0.5


@pytest.fixture(scope="module", params=["P0", "P1"])
def drawn(request: pytest.FixtureRequest) -> tuple[str, Latents]:
    name = request.param
    return name, draw_latents(N, generator(Split.TEST, 5), parameter_set(name))


def test_latin_square_has_every_symbol_once_in_each_row_and_column() -> None:
    for line in (*LATIN_SQUARE, *LATIN_SQUARE.T):
        assert sorted(line.tolist()) == [0, 1, 2]


def test_same_seed_same_latents_and_a_prefix_does_not_depend_on_n() -> None:
    long = draw_latents(500, generator(Split.TRAIN, 9))
    short = draw_latents(20, generator(Split.TRAIN, 9))
    assert np.array_equal(long.seen_pattern[:20], short.seen_pattern)
    assert np.array_equal(long.label[:20], short.label)
    assert len(short) == 20


def test_splits_are_separate_namespaces_of_one_seed() -> None:
    streams = {generator(split, 3).random() for split in Split}
    assert len(streams) == len(Split)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="zero or positive"):
        generator(Split.TRAIN, -1)


def test_unknown_parameter_set_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="P0, P1"):
        parameter_set("P7")


@pytest.mark.parametrize("name", ["P0", "P1"])
def test_confusions_are_distributions_with_the_stated_error(name: str) -> None:
    par = PARAMETERS[name]
    for error in par.severity_error:
        table = severity_confusion(error)
        assert np.allclose(table.sum(axis=1), 1)
        assert np.allclose(np.diag(table), 1 - error)
        assert table[0, 1] == pytest.approx(0.8 * error)
    for error in par.pattern_error:
        table = pattern_confusion(error)
        assert np.allclose(table.sum(axis=1), 1)
        assert np.allclose(np.diag(table), 1 - error)


def test_prevalence_and_priors_are_as_stated(drawn: tuple[str, Latents]) -> None:
    name, cases = drawn
    par = PARAMETERS[name]
    stated = {"P0": 0.421, "P1": 0.420}[name]
    assert cases.label.mean() == pytest.approx(stated, abs=TOLERANCE)
    low = (cases.severity == Severity.LOW).mean()
    ambiguous = (cases.severity == Severity.AMBIGUOUS).mean()
    assert low == pytest.approx(par.p_low, abs=TOLERANCE)
    assert ambiguous == pytest.approx(par.p_ambiguous, abs=TOLERANCE)
    assert cases.concordant.mean() == pytest.approx(par.p_concordant, abs=TOLERANCE)


def test_observation_errors_have_the_stated_rates(drawn: tuple[str, Latents]) -> None:
    name, cases = drawn
    par = PARAMETERS[name]
    for m in range(3):
        severity = (cases.seen_severity[:, m] != cases.severity).mean()
        pattern = (cases.seen_pattern[:, m] != cases.patterns[:, m]).mean()
        assert severity == pytest.approx(par.severity_error[m], abs=TOLERANCE)
        assert pattern == pytest.approx(par.pattern_error[m], abs=TOLERANCE)
    for true in range(3):
        rows = cases.severity == true
        seen = np.bincount(cases.seen_severity[rows, 1], minlength=3) / rows.sum()
        expected = severity_confusion(par.severity_error[1])[true]
        assert np.allclose(seen, expected, atol=0.02)


def test_label_follows_severity_and_concordance_up_to_the_flips(
    drawn: tuple[str, Latents],
) -> None:
    _, cases = drawn
    expected = (cases.severity == Severity.HIGH) | (
        (cases.severity == Severity.AMBIGUOUS) & (cases.concordant == 1)
    )
    assert np.array_equal(cases.label, expected ^ (cases.flipped == 1))


def test_concordant_cells_are_the_latin_square_and_others_are_not(
    drawn: tuple[str, Latents],
) -> None:
    _, cases = drawn
    image, syndrome, cells = cases.patterns.T
    match = LATIN_SQUARE[image, syndrome] == cells
    assert np.array_equal(match, cases.concordant == 1)


def test_two_patterns_alone_say_nothing_of_concordance(
    drawn: tuple[str, Latents],
) -> None:
    _, cases = drawn
    overall = cases.concordant.mean()
    for first, second in ((0, 1), (0, 2), (1, 2)):
        for a in range(3):
            for b in range(3):
                rows = (cases.patterns[:, first] == a) & (
                    cases.patterns[:, second] == b
                )
                share = cases.concordant[rows].mean()
                assert share == pytest.approx(overall, abs=4 * 0.5 / rows.sum() ** 0.5)


def test_row_gives_plain_values_of_one_case() -> None:
    latents = draw_latents(4, generator(Split.TRAIN, 1))
    row = latents.row(2)
    assert row.severity is Severity(int(latents.severity[2]))
    assert row.patterns == tuple(latents.patterns[2])
    assert row.seen_severity == tuple(latents.seen_severity[2])
    assert row.concordant is bool(latents.concordant[2])
