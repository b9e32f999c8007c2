"""Attributions: the axioms hold, and offsets and references point at the evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.explain.attribution import (
    PATH_STEPS,
    SHAPLEY_WEIGHTS,
    Question,
    coalition_values,
    image_path_gradient,
    modality_shares,
    shapley,
    text_path_gradient,
    word_scores,
)
from model.explain.left_out import value_scores
from model.explain.word_lists import STOP_WORDS
from model.inference.calibration import PATTERNS
from model.inference.tensors import to_tensors
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.network.inputs import VALUES
from tests.model.checkpoint_samples import cases, write_checkpoint

RECORDS = cases(24)
GAMES = st.lists(st.floats(-50, 50), min_size=8, max_size=8)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """An untrained checkpoint."""
    torch.set_num_threads(1)
    folder = write_checkpoint(tmp_path_factory.mktemp("model") / "untrained", RECORDS)
    loaded = load_checkpoint(folder)
    loaded.model.requires_grad_(False)
    return loaded


def question(
    loaded: LoadedCheckpoint, record: PatientRecord, column: int = 0
) -> Question:
    """What is asked about one label of one record."""
    inputs = to_tensors([record], loaded.vocabulary)
    with torch.no_grad():
        tokens = loaded.model.encode(inputs)
    return Question(
        loaded.model,
        loaded.calibration,
        inputs,
        tokens,
        inputs.present,
        loaded.config.labels[column],
        column,
    )


def without(record: PatientRecord, modality: Modality) -> PatientRecord:
    """The record with one modality absent."""
    field = {"image": "images", "text": "notes", "values": "values"}[modality]
    states = {**record.states, modality: ModalityState(ModalityStatus.ABSENT, "x")}
    return replace(record, states=states, **{field: ()})  # type: ignore[arg-type]


@given(GAMES)
def test_shapley_shares_add_up_to_the_whole(values: list[float]) -> None:
    assert sum(shapley(values)) == pytest.approx(values[7] - values[0], abs=1e-9)


@given(GAMES)
def test_a_player_that_changes_nothing_gets_nothing(values: list[float]) -> None:
    game = [values[coalition & ~2] for coalition in range(8)]
    assert shapley(game)[1] == 0


@given(GAMES)
def test_players_that_are_alike_get_alike(values: list[float]) -> None:
    game = [values[bin(coalition).count("1")] for coalition in range(8)]
    first, second, third = shapley(game)
    assert first == pytest.approx(second) and second == pytest.approx(third)


def test_a_known_game_is_solved() -> None:
    # Worth 6 only when all three are there, and player 0 alone is worth 1 more.
    game = [float(bool(c & 1)) + (6.0 if c == 7 else 0.0) for c in range(8)]
    assert shapley(game) == pytest.approx((3.0, 2.0, 2.0))


@pytest.mark.parametrize("record", RECORDS[:6])
@pytest.mark.parametrize("column", [0, 1])
def test_shares_of_the_model_add_up_on_both_scales(
    loaded: LoadedCheckpoint, record: PatientRecord, column: int
) -> None:
    asked = question(loaded, record, column)
    values = coalition_values(asked)
    logits, probabilities = values.logit, values.probability
    shares = modality_shares(values)
    assert [s.modality for s in shares] == ["image", "text", "values"]
    assert abs(sum(s.logit for s in shares) - (logits[7] - logits[0])) < 1e-5
    total = sum(s.probability for s in shares)
    assert abs(total - (probabilities[7] - probabilities[0])) < 1e-5


def test_coalitions_equal_records_that_lack_the_rest(loaded: LoadedCheckpoint) -> None:
    logits = coalition_values(question(loaded, RECORDS[0])).logit
    for number, pattern in enumerate(PATTERNS):
        record = RECORDS[0]
        for modality, there in zip(Modality, pattern):
            record = record if there else without(record, modality)
        alone = question(loaded, record)
        raw = loaded.model.fuse(alone.tokens, alone.present).logits[0, 0]
        expected = loaded.calibration.of(pattern, alone.label).logit(float(raw))
        assert logits[number] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("modality", list(Modality))
def test_an_absent_modality_has_no_share(
    loaded: LoadedCheckpoint, modality: Modality
) -> None:
    lacking = question(loaded, without(RECORDS[1], modality))
    shares = modality_shares(coalition_values(lacking))
    by_name = {share.modality: share for share in shares}
    assert by_name[modality].logit == by_name[modality].probability == 0
    assert sum(abs(s.logit) for s in shares) > 0


def test_word_scores_point_at_whole_words_of_the_note(
    loaded: LoadedCheckpoint,
) -> None:
    asked = question(loaded, RECORDS[2])
    note = RECORDS[2].notes[0]
    scores = word_scores(asked, text_path_gradient(asked), [note.text])
    assert scores
    for score in scores:
        word = note.text[score.start : score.end]
        assert score.reference == note.provenance.reference
        assert score.score > 0
        assert word.strip() == word and any(c.isalnum() for c in word)
        assert word.lower() not in STOP_WORDS
    assert list(scores) == sorted(scores, key=lambda s: s.start)
    assert len({(s.start, s.end) for s in scores}) == len(scores)


def test_offsets_count_characters_of_each_of_several_notes(
    loaded: LoadedCheckpoint,
) -> None:
    note = RECORDS[2].notes[0]
    second = replace(
        note,
        text="Ängstlich. Fièvre, crackles " + note.text[:60],
        provenance=replace(note.provenance, reference="DocumentReference/second"),
    )
    short = replace(note, text="Cough and fever.")
    record = replace(RECORDS[2], notes=(short, second))
    asked = question(loaded, record)
    texts = [n.text for n in record.notes]
    scores = word_scores(asked, text_path_gradient(asked), texts)
    by_note = {n.provenance.reference: n.text for n in record.notes}
    for score in scores:
        word = by_note[score.reference][score.start : score.end]
        assert word and not word[0].isspace() and not word[-1].isspace()


def test_pieces_of_one_word_are_summed(loaded: LoadedCheckpoint) -> None:
    # A word that the vocabulary must spell in single letters.
    note = replace(RECORDS[2].notes[0], text="xqzjk")
    asked = question(loaded, replace(RECORDS[2], notes=(note,)))
    gradient = text_path_gradient(asked)
    scores = word_scores(asked, gradient, [note.text])
    relevance = (gradient * asked.tokens.text).sum(-1).clamp(min=0)[0]
    inside = asked.inputs.word[0] >= 0
    assert int(inside.sum()) > 1
    assert [(s.start, s.end) for s in scores] == [(0, 5)]
    assert scores[0].score == pytest.approx(float(relevance[inside].sum()))


def test_words_of_an_absent_note_have_no_score(loaded: LoadedCheckpoint) -> None:
    asked = question(loaded, without(RECORDS[2], Modality.TEXT))
    assert word_scores(asked, text_path_gradient(asked), []) == ()


def loincs(loaded: LoadedCheckpoint, asked: Question) -> list[str]:
    """LOINC code of each measurement token."""
    codes = asked.inputs.code[0].tolist()[: len(asked.inputs.value_ids[0])]
    return [loaded.vocabulary.codes[code].loinc for code in codes]


def test_left_out_is_what_leaving_the_value_out_changes(
    loaded: LoadedCheckpoint,
) -> None:
    record = RECORDS[3]
    asked = question(loaded, record)
    scores = value_scores(asked, loincs(loaded, asked))
    platt = loaded.calibration.of((True, True, True), asked.label)
    whole = float(loaded.model.fuse(asked.tokens, asked.present).logits[0, 0])
    for value in record.values:
        rest = tuple(v for v in record.values if v is not value)
        less = question(loaded, replace(record, values=rest))
        raw = float(loaded.model.fuse(less.tokens, less.present).logits[0, 0])
        (score,) = (s for s in scores if s.reference == value.provenance.reference)
        assert score.loinc == value.loinc
        assert score.left_out == pytest.approx(platt.slope * (whole - raw), abs=1e-4)


def test_a_record_whose_only_value_is_left_out_is_one_without_values(
    loaded: LoadedCheckpoint,
) -> None:
    record = replace(
        RECORDS[3],
        values=RECORDS[3].values[:1],
        patient=replace(RECORDS[3].patient, sex=None, birth_date=None),
    )
    asked = question(loaded, record)
    (score,) = value_scores(asked, loincs(loaded, asked))
    logits = coalition_values(asked).logit
    assert score.left_out == pytest.approx(logits[7] - logits[3], abs=1e-4)
    assert score.direction == pytest.approx(shapley(logits)[VALUES], abs=1e-4)


def test_values_of_an_absent_modality_have_no_score(loaded: LoadedCheckpoint) -> None:
    assert (
        value_scores(question(loaded, without(RECORDS[3], Modality.VALUES)), []) == ()
    )


def test_the_film_path_adds_up_the_slopes_along_it(loaded: LoadedCheckpoint) -> None:
    asked = question(loaded, RECORDS[4])
    gradient = image_path_gradient(asked)
    assert gradient.shape == asked.tokens.image.shape
    width, total = 1e-2, 0.0
    for pattern in PATTERNS:
        used = asked.present & torch.tensor([pattern])
        for step in range(PATH_STEPS if pattern[0] else 0):
            along = (step + 0.5) / PATH_STEPS
            ends = [
                loaded.model.fuse(
                    replace(asked.tokens, image=asked.tokens.image * (along + side)),
                    used,
                ).logits
                for side in (width, -width)
            ]
            slope = float((ends[0] - ends[1])[0, 0]) / (2 * width)
            total += SHAPLEY_WEIGHTS[sum(pattern) - 1] * slope / PATH_STEPS
    shares = float((gradient * asked.tokens.image).sum())
    assert shares == pytest.approx(total, rel=0.05, abs=2e-3)


def test_without_a_film_the_image_gradient_is_zero(loaded: LoadedCheckpoint) -> None:
    gradient = image_path_gradient(
        question(loaded, without(RECORDS[4], Modality.IMAGE))
    )
    assert not gradient.any()
