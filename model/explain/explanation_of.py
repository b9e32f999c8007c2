"""All explanations of one label's estimate, put together and told in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from model.explain.asked import Asked
from model.explain.attribution import (
    Question,
    coalition_values,
    image_path_gradient,
    modality_shares,
    text_path_gradient,
    word_scores,
)
from model.explain.counterfactual import counterfactual
from model.explain.grad_cam import film_raised, heat_maps
from model.explain.left_out import value_scores
from model.explain.narrative import Parts, narrate
from model.explain.phrases import note_words, phrase_scores, section_scores
from model.explain.synergy import dividends, dominance_of
from model.explain.value_path import value_path
from model.inference.vocabulary import InputVocabulary
from model.jobs.explanation import Explanation, ValueScore


def explanation_of(
    asked: Asked, vocabulary: InputVocabulary, *, thorough: bool = True
) -> Explanation:
    """Explain one estimate.

    Args:
        asked: The estimate, with the model and its tokens for this record.
        vocabulary: Names the code of each measurement token.
        thorough: Also phrases, sections, integrated gradients per value and the
            counterfactual: some two hundred more rows through the fusion module.

    Raises:
        NarrativeError: a sentence that its evidence does not back.
    """
    question, record = asked.question, asked.record
    inputs = question.inputs
    codes = inputs.code[0].tolist()[: len(inputs.value_ids[0])]
    coalitions = coalition_values(question)
    blank = not film_raised(question, coalitions)
    text = [note.text for note in record.notes]
    text_gradient = text_path_gradient(question)
    parts = Parts(
        heat_maps=heat_maps(question, image_path_gradient(question), blank=blank),
        words=word_scores(question, text_gradient, text),
        values=value_scores(question, [vocabulary.codes[code].loinc for code in codes]),
    )
    shares = modality_shares(coalitions)
    brief = Explanation(
        label=question.label,
        modalities=shares,
        heat_maps=tuple(parts.heat_maps),
        words=tuple(parts.words),
        values=tuple(parts.values),
        narrative=narrate(record, asked.prediction, asked.estimate, parts),
        dividends=dividends(coalitions),
        dominance=dominance_of(shares),
    )
    if not thorough:
        return brief
    words = note_words(question, text_gradient, text)
    phrases = phrase_scores(words, inputs.note_ids[0])
    return replace(
        brief,
        phrases=phrases,
        sections=section_scores(words, record.notes),
        counterfactual=counterfactual(
            question, record, vocabulary, asked.estimate.threshold, phrases
        ),
        **_integrated(question, parts.values),
    )


def _integrated(question: Question, scores: Sequence[ValueScore]) -> dict[str, Any]:
    """The values with their integrated gradients, and the completeness gap."""
    path = value_path(question)
    if path is None:
        return {}
    return {
        "values": tuple(
            replace(score, integrated=share)
            for score, share in zip(scores, path.shares, strict=True)
        ),
        "values_gap": path.gap,
    }
