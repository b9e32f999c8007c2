"""The smallest edit that would move the estimate across its threshold.

First one measured value, moved within what training records and the closed table of
possible values allow, the smallest move in interquartile ranges; where none is enough,
one phrase taken out of the note, the one with the fewest words. One edit at a time, and
only edits that were tried are claimed: "none found" says how many.

It tells what the model's decision hangs on (Wachter et al. 2017). It is not advice: a
value cannot be wished to another one, and the model is no cause of illness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import torch
from torch import Tensor

from fhir_adapters.patient_record import CodedValue, PatientRecord
from model.explain.attribution import Question
from model.inference.possible_values import LIMITS
from model.inference.tensors import interpretation
from model.inference.vocabulary import CodeStatistic, InputVocabulary
from model.jobs.explanation import Counterfactual, PhraseScore
from model.network.fusion import Tokens
from model.network.inputs import FLAGS, TEXT, VALUES, TriModalInputs

ROWS = 128  # most edits in one batch
CUTS, ROUNDS = 16, 3  # the way back is cut to a 4096th of itself
MAX_PHRASES = 8
NONE_FOUND = "none_found"


@dataclass(frozen=True, slots=True)
class Edit:
    """One measurement (its token) moved to another number."""

    token: int
    statistic: CodeStatistic
    value: CodedValue
    after: float

    @property
    def size(self) -> float:
        """Length of the move in interquartile ranges."""
        return abs(self.after - float(self.value.value)) / self.statistic.iqr


def counterfactual(
    question: Question,
    record: PatientRecord,
    vocabulary: InputVocabulary,
    threshold: float,
    phrases: Sequence[PhraseScore],
) -> Counterfactual:
    """The smallest edit found, or that none was.

    Args:
        question: The case, with the tokens that the estimate was made from.
        record: As the model read it.
        vocabulary: Of the checkpoint.
        threshold: Decision threshold on the calibrated probability.
        phrases: From ``phrase_scores``; the strongest in the needed direction are
            tried.
    """
    positive = _probabilities(question, question.tokens, question.present)[0]
    wanted = positive < threshold  # what the edit has to make of the decision
    edits = list(_edits(question.inputs, record, vocabulary))
    reached = _after_edits(question, edits)
    flips = [
        (edit.size, number)
        for number, (edit, p) in enumerate(zip(edits, reached))
        if (p >= threshold) == wanted
    ]
    if flips:
        best = edits[min(flips)[1]]
        return _refined(question, best, threshold, wanted, len(edits))
    return _without_phrase(question, record, phrases, threshold, wanted, len(edits))


def _probabilities(question: Question, tokens: Tokens, present: Tensor) -> list[float]:
    """Calibrated probability of each row, each for its own presence pattern."""
    with torch.no_grad():
        logits = question.model.fuse(tokens, present).logits[:, question.column]  # (R,)
    return [
        question.calibration.of(pattern, question.label).probability(raw)
        for pattern, raw in zip(present.tolist(), logits.double().tolist())
    ]


def _edits(
    inputs: TriModalInputs, record: PatientRecord, vocabulary: InputVocabulary
) -> Iterator[Edit]:
    """Each measurement moved to each bound of its bins, within what is possible."""
    measured = {(v.provenance.reference, v.loinc): v for v in record.values}
    codes = inputs.code[0].tolist()
    for token, reference in enumerate(inputs.value_ids[0]):
        statistic = vocabulary.codes[codes[token]]
        value = measured.get((reference, statistic.loinc))
        if value is None:  # age and sex are not edited
            continue
        limits = LIMITS.get(statistic.loinc)
        for edge in statistic.edges:
            after = statistic.median + edge * statistic.iqr
            possible = limits is None or limits.low <= after <= limits.high
            if possible and after != float(value.value):
                yield Edit(token, statistic, value, after)


def _after_edits(question: Question, edits: Sequence[Edit]) -> list[float]:
    """Probability after each edit alone."""
    found: list[float] = []
    for first in range(0, len(edits), ROWS):
        part = edits[first : first + ROWS]
        inputs = question.inputs.select([0] * len(part))
        value, flag = inputs.value.clone(), inputs.flag.clone()
        for row, edit in enumerate(part):
            encoded = torch.from_numpy(edit.statistic.encode(edit.after))  # (K,)
            value[row, edit.token, : len(encoded)] = encoded.to(value.device)
            moved = replace(
                edit.value, value=Decimal(repr(edit.after)), interpretation=None
            )
            flag[row, edit.token] = FLAGS.index(interpretation(moved))
        changed = replace(inputs, value=value, flag=flag)
        found += _encoded_again(question, changed, VALUES)
    return found


def _encoded_again(
    question: Question, inputs: TriModalInputs, modality: int
) -> list[float]:
    """Probabilities with one modality encoded again from changed inputs (R rows)."""
    with torch.no_grad():
        fresh, mask = question.model.encode_modality(inputs, modality)  # (R, Nm, D)
    rows = question.tokens.repeat(len(inputs))
    fresh = fresh.float()
    if modality == VALUES:
        tokens = replace(rows, values=fresh, values_mask=mask)
    else:
        tokens = replace(rows, text=fresh, text_mask=mask)
    present = question.present.repeat(len(inputs), 1)  # (R, 3)
    present[:, modality] &= mask.any(1)
    return _probabilities(question, tokens, present)


def _refined(
    question: Question, edit: Edit, threshold: float, wanted: bool, tried: int
) -> Counterfactual:
    """Narrow the way to the measured number down to where the decision turns."""
    near, far = float(edit.value.value), edit.after
    for _ in range(ROUNDS):
        step = (far - near) / CUTS
        tries = [replace(edit, after=near + step * k) for k in range(1, CUTS)]
        reached = [(p >= threshold) == wanted for p in _after_edits(question, tries)]
        # The nearest number that turns it; the far end is known to.
        first = reached.index(True) + 1 if any(reached) else CUTS
        near, far = near + step * (first - 1), near + step * first
    edit = replace(edit, after=_as_reported(edit.value.value, far))
    return Counterfactual(
        kind="value",
        reference=edit.value.provenance.reference,
        loinc=edit.value.loinc,
        before=float(edit.value.value),
        after=edit.after,
        unit=edit.value.unit,
        size=round(edit.size, 4),
        probability=_after_edits(question, [edit])[0],
        tried=tried,
    )


def _as_reported(before: Decimal, after: float) -> float:
    """``after`` with as many decimals as the laboratory gave, rounded away."""
    step = Decimal(1).scaleb(min(0, int(before.as_tuple().exponent)))
    way = ROUND_CEILING if after > before else ROUND_FLOOR
    return float(Decimal(repr(after)).quantize(step, rounding=way))


def _without_phrase(
    question: Question,
    record: PatientRecord,
    phrases: Sequence[PhraseScore],
    threshold: float,
    wanted: bool,
    tried: int,
) -> Counterfactual:
    """Take one phrase out of the note, read the note again; the shortest that flips."""
    sign = -1 if wanted else 1  # an estimate falls without what raised it
    useful = sorted(
        (p for p in phrases if sign * p.score > 0), key=lambda p: -sign * p.score
    )[:MAX_PHRASES]
    if not useful:
        return Counterfactual(NONE_FOUND, tried=tried)
    inputs = question.inputs.select([0] * len(useful))
    references = inputs.note_ids[0]
    attn = inputs.attn.clone()  # (R, Nt)
    for row, phrase in enumerate(useful):
        inside = (
            (inputs.note[row] == references.index(phrase.reference))
            & (inputs.word[row] >= 0)
            & (inputs.word_start[row] >= phrase.start)
            & (inputs.word_end[row] <= phrase.end)
        )  # (Nt,)
        attn[row, inside] = False
    reached = _encoded_again(question, replace(inputs, attn=attn), TEXT)
    text = {note.provenance.reference: note.text for note in record.notes}
    flips = [
        (len(text[phrase.reference][phrase.start : phrase.end].split()), row)
        for row, (phrase, p) in enumerate(zip(useful, reached))
        if (p >= threshold) == wanted
    ]
    tried += len(useful)
    if not flips:
        return Counterfactual(NONE_FOUND, tried=tried)
    words, row = min(flips)
    return Counterfactual(
        kind="text",
        reference=useful[row].reference,
        start=useful[row].start,
        end=useful[row].end,
        size=float(words),
        probability=reached[row],
        tried=tried,
    )
