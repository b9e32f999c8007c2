"""One synthetic case, explained and measured: numbers by name, into a tally."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from model.errors import NarrativeError
from model.explain.asked import Asked
from model.explain.attribution import coalition_values, shapley, text_path_gradient
from model.explain.counterfactual import NONE_FOUND
from model.explain.narrative import Parts, sentences_and_facts
from model.explain.perturbation import film_curves, note_drops
from model.explain.phrases import note_words
from model.explain.scoring import (
    average_precision,
    mass_inside,
    pointing_hit,
    symmetrised,
    top_overlap,
    upsampled,
)
from model.explain.verifier import Fact, verify
from model.jobs.explanation import Explanation, Sentence
from model.synthetic.case import Carries, SpanKind, SynthCase
from model.synthetic.latents import Severity

PLANTED_WORDS = (SpanKind.SEVERITY, SpanKind.SYNDROME)
PLANTED_VALUES = (Carries.SEVERITY, Carries.CELLS)
CALLED = 0.5  # estimated above one half


@dataclass(frozen=True)
class Tally:
    """Numbers of many cases by name; curves are kept whole."""

    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    curves: dict[str, list[Sequence[float]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, name: str, value: float | None) -> None:
        """One number of one case; None is left out."""
        if value is not None:
            self.numbers[name].append(float(value))


def measure_case(
    tally: Tally,
    case: SynthCase,
    asked: Asked,
    explanation: Explanation,
    random: np.random.Generator,
) -> None:
    """Add everything that one case tells.

    Args:
        tally: Where the numbers go.
        case: With the truth that was planted.
        asked: The estimate.
        explanation: Of that estimate.
        random: Of the random orders that a map is compared with.
    """
    _axioms(tally, asked)
    _normals(tally, case, asked, explanation)
    _sentences(tally, asked, explanation)
    edit = explanation.counterfactual
    if edit is not None:
        tally.add("edit_found", edit.kind != NONE_FOUND)
    if case.label and asked.estimate.probability > CALLED:
        if case.mask.any() and explanation.heat_maps:
            _film(tally, case, asked, explanation, random)
        if explanation.phrases:
            _note(tally, case, asked, explanation)
        _values(tally, case, explanation)


def _axioms(tally: Tally, asked: Asked) -> None:
    """Efficiency, dummy and symmetry of the modality game, on the calibrated logit."""
    game = coalition_values(asked.question).logit
    tally.add("efficiency", abs(sum(shapley(game)) - (game[7] - game[0])))
    for player in range(3):
        rest = list(asked.question.present[0].tolist())
        rest[player] = False
        present = asked.question.present.new_tensor([rest])
        without = coalition_values(replace(asked.question, present=present))
        tally.add("dummy", abs(shapley(without.logit)[player]))
        other = (player + 1) % 3
        shares = shapley(symmetrised(game, player, other))
        tally.add("symmetry", abs(shares[player] - shares[other]))


def _normals(
    tally: Tally, case: SynthCase, asked: Asked, explanation: Explanation
) -> None:
    """What is said of patients and films without the finding."""
    if not case.label:
        tally.add("negative_called", asked.estimate.positive)
    if case.latents.seen_severity[0] == Severity.LOW:
        tally.add("plain_film_drawn", any(not m.blank for m in explanation.heat_maps))
        if not case.label:
            tally.add("normal_called", asked.estimate.positive)


def _sentences(tally: Tally, asked: Asked, explanation: Explanation) -> None:
    """Every sentence passes; each of its falsified copies is caught."""
    parts = Parts(explanation.heat_maps, explanation.words, explanation.values)
    sentences, facts = sentences_and_facts(
        asked.record, asked.prediction, asked.estimate, parts
    )
    for sentence in sentences:
        tally.add("sentence_passes", _passes(sentence, facts))
        for false in falsified(sentence):
            tally.add("plant_caught", not _passes(false, facts))


def _passes(sentence: Sentence, facts: Mapping[str, Fact]) -> bool:
    try:
        verify(sentence, facts)
    except NarrativeError:
        return False
    return True


_SWAPS = (
    ("right ", "left "),
    ("left ", "right "),
    ("(H", "(L"),
    ("(L", "(H"),
    ("lower ", "upper "),
    ("upper ", "lower "),
    ("mg/dL", "g/dL"),
    ("mmol/L", "mol/L"),
)


def falsified(sentence: Sentence) -> list[Sentence]:
    """Copies of a sentence that its evidence does not support."""
    text = sentence.text
    made = [
        text + " There are 99999 more.",
        text + " \u201cempyema necessitans\u201d was noted.",
    ]
    for one, other in _SWAPS:
        if one in text:
            made.append(text.replace(one, other, 1))
    copies = [replace(sentence, text=changed) for changed in made]
    return [*copies, replace(sentence, evidence=("Observation/unknown",))]


def _film(
    tally: Tally,
    case: SynthCase,
    asked: Asked,
    explanation: Explanation,
    random: np.random.Generator,
) -> None:
    """Localisation of the map as drawn, and what deleting by it does."""
    heat_map = explanation.heat_maps[0]
    heat = upsampled(heat_map.grid, case.mask.shape)
    grid = np.asarray(heat_map.grid)
    step = case.mask.shape[0] // len(grid)
    cells = case.mask.reshape(len(grid), step, len(grid), step).mean((1, 3)) > 0.05
    tally.add("pointing", pointing_hit(heat, case.mask))
    tally.add("patch_pointing", pointing_hit(grid, cells))
    tally.add("mass", mass_inside(grid, cells))
    tally.add("lesion_area", float(cells.mean()))
    tally.add("overlap", top_overlap(heat, case.mask))
    tally.add("drawn", not heat_map.blank)
    other = upsampled(random.random(grid.shape).tolist(), case.mask.shape)
    for name, order in (("map", heat), ("random", other)):
        curves = film_curves(asked.question, order)
        tally.curves[f"deletion_{name}"].append(curves.deletion)
        tally.curves[f"insertion_{name}"].append(curves.insertion)


def _note(
    tally: Tally, case: SynthCase, asked: Asked, explanation: Explanation
) -> None:
    """Planted words against the rest, and what taking words away does."""
    text = [note.text for note in asked.record.notes]
    words = note_words(asked.question, text_path_gradient(asked.question), text)
    spans = [s for s in case.note.spans if s.kind in PLANTED_WORDS]
    telling = [word for word in words if word.says]
    truth = [any(s.start <= w.start < s.end for s in spans) for w in telling]
    plain = {(w.start, w.end): w.score for w in explanation.words}
    by_word = [plain.get((w.start, w.end), 0.0) for w in telling]
    by_phrase = {(p.start, p.end): p.weight for p in explanation.phrases}
    phrase = [
        max((v for (a, b), v in by_phrase.items() if a <= w.start < b), default=0.0)
        + 1e-3 * w.weight  # words of one phrase in the order of their own weight
        for w in telling
    ]
    tally.add("word_precision", average_precision(truth, by_word))
    tally.add("phrase_precision", average_precision(truth, phrase))
    tally.add("planted_words", float(np.mean(truth)))
    order = sorted(words, key=lambda w: (-plain.get((w.start, w.end), 0.0), w.start))
    drops = note_drops(asked.question, [(w.note, w.start, w.end) for w in order])
    tally.add("comprehensiveness", float(np.mean(drops.without)))
    tally.add("sufficiency", float(np.mean(drops.only)))


def _values(tally: Tally, case: SynthCase, explanation: Explanation) -> None:
    """Planted values against the rest, by both attributions."""
    carries = {value.loinc: value.carries for value in case.values}
    truth = [carries.get(v.loinc) in PLANTED_VALUES for v in explanation.values]
    left_out = [abs(v.logit) for v in explanation.values]
    path = [abs(v.integrated or 0.0) for v in explanation.values]
    tally.add("lab_precision", average_precision(truth, left_out))
    tally.add("lab_path_precision", average_precision(truth, path))
    gap = explanation.values_gap
    tally.add("lab_path_gap", None if gap is None else abs(gap))
