"""All explanations of one label's estimate, put together and told in sentences."""

from __future__ import annotations

from fhir_adapters.patient_record import PatientRecord
from model.explain.attribution import (
    Question,
    coalition_values,
    image_gradient,
    modality_shares,
    text_path_gradient,
    value_scores,
    word_scores,
)
from model.explain.grad_cam import film_raised, heat_maps
from model.explain.narrative import Parts, narrate
from model.inference.vocabulary import InputVocabulary
from model.jobs.explanation import Explanation
from model.jobs.prediction import LabelEstimate, Prediction


def explanation_of(
    question: Question,
    record: PatientRecord,
    vocabulary: InputVocabulary,
    prediction: Prediction,
    estimate: LabelEstimate,
) -> Explanation:
    """Explain one estimate.

    Args:
        question: The model, its tokens for this record and the label.
        record: The record as the model read it.
        vocabulary: Names the code of each measurement token.
        prediction: What was said.
        estimate: The estimate to explain, of the question's label.

    Raises:
        NarrativeError: a sentence that its evidence does not back.
    """
    inputs = question.inputs
    codes = inputs.code[0].tolist()[: len(inputs.value_ids[0])]
    coalitions = coalition_values(question)
    blank = not film_raised(question, coalitions)
    parts = Parts(
        heat_maps=heat_maps(question, image_gradient(question), blank=blank),
        words=word_scores(
            question,
            text_path_gradient(question),
            [note.text for note in record.notes],
        ),
        values=value_scores(question, [vocabulary.codes[code].loinc for code in codes]),
    )
    return Explanation(
        label=question.label,
        modalities=modality_shares(coalitions),
        heat_maps=tuple(parts.heat_maps),
        words=tuple(parts.words),
        values=tuple(parts.values),
        narrative=narrate(record, prediction, estimate, parts),
    )
