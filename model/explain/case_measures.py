"""One synthetic case, explained and measured: numbers by name, into a tally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.errors import NarrativeError
from model.explain.asked import Asked
from model.explain.attribution import coalition_values, shapley
from model.explain.counterfactual import NONE_FOUND
from model.explain.film_measures import measure_film
from model.explain.left_out import changes_without
from model.explain.narrative import Parts, sentences_and_facts
from model.explain.note_measures import GROUP_SHARE, GROUPS, measure_note
from model.explain.scoring import average_precision, infidelity, symmetrised
from model.explain.tally import Tally
from model.explain.verifier import Fact, verify
from model.jobs.explanation import Explanation, Sentence, ValueScore
from model.network.inputs import VALUES
from model.synthetic.case import Carries, SynthCase
from model.synthetic.latents import Severity

PLANTED_VALUES = (Carries.SEVERITY, Carries.CELLS)
CALLED = 0.5  # estimated above one half


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
        random: Of the random orders and groups that scores are compared with.
    """
    _axioms(tally, asked)
    _normals(tally, case, asked, explanation)
    _sentences(tally, asked, explanation)
    edit = explanation.counterfactual
    if edit is not None:
        tally.add("edit_found", edit.kind != NONE_FOUND)
    if case.label and asked.estimate.probability > CALLED:
        if case.mask.any() and explanation.heat_maps:
            measure_film(tally, case, asked, explanation, random)
        if explanation.phrases:
            measure_note(tally, case, asked, explanation, random)
        if explanation.values:
            _values(tally, case, asked, explanation, random)


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


def _values(
    tally: Tally,
    case: SynthCase,
    asked: Asked,
    explanation: Explanation,
    random: np.random.Generator,
) -> None:
    """Planted values against the rest, by each attribution, and what they foretell."""
    carries = {value.loinc: value.carries for value in case.values}
    scores = explanation.values
    truth = [carries.get(v.loinc) in PLANTED_VALUES for v in scores]
    for name, ranked in (
        ("lab_precision", [v.importance for v in scores]),
        ("lab_change_precision", [abs(v.left_out or 0.0) for v in scores]),
        ("lab_path_precision", [abs(v.integrated or 0.0) for v in scores]),
    ):
        tally.add(name, average_precision(truth, ranked))
    _directions(tally, case, scores)
    gap = explanation.values_gap
    tally.add("lab_path_gap", None if gap is None else abs(gap))
    tally.add("planted_values", float(np.mean(truth)))
    size = max(1, round(GROUP_SHARE * len(scores)))
    picks = [random.choice(len(scores), size, replace=False) for _ in range(GROUPS)]
    done = changes_without(asked.question, [set(pick.tolist()) for pick in picks])
    said = np.array([v.left_out or 0.0 for v in scores])
    tally.add("lab_infidelity", infidelity([said[p].sum() for p in picks], done))
    mixed = random.permutation(said)
    tally.add(
        "lab_infidelity_random", infidelity([mixed[p].sum() for p in picks], done)
    )


def _directions(tally: Tally, case: SynthCase, scores: Sequence[ValueScore]) -> None:
    """Whether values of clear severity point where the generator made them point."""
    state = Severity(int(case.latents.seen_severity[VALUES]))
    told = {v.loinc for v in case.values if v.carries is Carries.SEVERITY}
    clear = [v for v in scores if v.loinc in told and state is not Severity.AMBIGUOUS]
    if clear:
        up = state is Severity.HIGH
        right = [((v.direction or 0.0) > 0) is up for v in clear]
        changed = [((v.left_out or 0.0) > 0) is up for v in clear]
        tally.add("lab_direction", float(np.mean(right)))
        tally.add("lab_direction_full_record", float(np.mean(changed)))
