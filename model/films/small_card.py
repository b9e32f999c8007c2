"""The card and the notice that travel with the ``small`` checkpoint.

Both are written from the figures of the build and from ``small_sources.json``: no
number stands here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from model.films.trimodal_report import interval, number

NAME = "trivium-small"
VERSION = "0.1.0"
TRAINED_ON = (
    "real chest films (NIH ChestX-ray14, Kermany) and openly licensed medical texts; "
    "fusion on film-trimodal (real NIH films, synthetic notes and values) and on "
    "synthetic cases"
)
#: The command that writes the folder.
COMMAND = (
    "trivium-model build-small --films FILMS --encoder ENCODER --bert BERT "
    "--out model/checkpoints/small"
)

_CARD = """# Model card: Trivium small checkpoint

**Investigational. Not for clinical use.** The films that taught it are real, the
notes and laboratory values are synthetic and so is the label. A probability of this
model says nothing about a patient. It exists so that the whole plugin can be run and
tested with an encoder of real films and an encoder of real language.

## What it is

A tri-modal network ({parameters:,} parameters, stored as float16, computed in
float32): a convolutional encoder for the film, a BERT stack with a vocabulary of its
own for the note, one token per measurement for the structured record, gated
cross-attention in all directions, one logit per label. Any modality may be missing;
each presence pattern has its own calibration.

- Label: `pneumonia`, shown as "Pneumonia". On film-trimodal it is drawn from a
  synthetic severity and from whether film, note and cells fit
  (`docs/film-trimodal.md`); no physician has given it.
- Film encoder: taught findings of NIH ChestX-ray14 and of the Kermany set, and
  lesions of drawn films; frozen here. No film of the US National Library of Medicine
  (Montgomery, Shenzhen) was used.
- Text encoder: taught masked words of the texts that NOTICE lists; frozen here, all
  but the projection that learns what synthetic notes say.
- Fusion: {joined:,} cases of film-trimodal on {films:,} films of its training
  patients, and {drawn:,} drawn cases (SynthTriModal with drawn films, because the
  sandbox and the demonstration serve such films).
- Calibration and limits: {held_joined:,} cases on {held_films:,} films of the
  validation patients, and {held_drawn:,} drawn cases of another seed namespace.

Rebuilt by:

    {command}

## Figures

On the test patients of film-trimodal ({tested:,} cases of {patients:,} patients),
AUROC {auroc} with all three modalities; intervals resample patients. Decisions at one
half.

{head}
{real}

Attainable on the same cases when a film is read without error {read}, when it is not
looked at {blind}. Fusion not below the best pair ({pair}): {holds}.

A linear reader of the frozen film state tells films that show something from films
that do not with AUROC {trained} on its training patients and {other} on validation
patients. {shuffled} of the training cases of film-trimodal got another patient's
film, so that the fusion does not trust a film more than new films deserve.

On {synthetic:,} drawn test cases (SynthTriModal, films drawn), beside the exact
ceiling of the same cases:

| modalities | AUROC | ceiling | accuracy | precision | recall | F1 | ECE |
|---|---|---|---|---|---|---|---|
{drawn_rows}

The decision threshold {threshold:.3f} misses at most 10 % of held-out positives with
all three modalities present (conformal risk control), on a mixture of both sorts of
cases as in the calibration; on one sort alone that share is not guaranteed.

## Limits

- The label is synthetic: nothing here is evidence of use at a bedside.
- NIH findings were read off reports by a program; the films are a convenience sample.
- Notes come from a small grammar. A real note is read by an encoder that knows
  medical language, but what it means for the label was learnt from that grammar.
- Detectors that refuse foreign films, notes and values were fitted on these cases,
  too.
- No statement about fairness is possible: age and sex are drawn.
"""


_DECISIONS = ("accuracy", "precision", "recall", "F1", "ECE")
_COLUMNS = ("modalities", "AUROC", "AUPRC", *_DECISIONS, "all minus this")


@lru_cache(maxsize=1)
def sources() -> Mapping[str, Any]:
    """Films and texts that taught the encoders, with their terms and citations."""
    text = files("model.films").joinpath("small_sources.json").read_text("utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def notice() -> str:
    """What the terms of the sources ask to be said wherever the weights go."""
    parts = [
        "Trivium small checkpoint",
        "Vocabulary, statistics, calibration and weights in this folder were made by "
        "the command in MODEL_CARD.md. Licence: Apache-2.0, as the rest of Trivium. "
        "The weights learnt from the data below; none of it is contained. No film of "
        "the US National Library of Medicine (Montgomery, Shenzhen) was used.",
        "CHEST FILMS",
    ]
    for film in sources()["films"]:
        parts.append(
            f"{film['name']}. Provider: {film['provider']}. {film['link']}\n"
            f"Terms: {film['terms']}.\nUsed and changed: {film['used']}.\n"
            f"Citation: {film['citation']}."
        )
    parts.append("TEXTS (masked-word training; split into sentences, repeats left out)")
    for text in sources()["texts"]:
        parts.append(f"{text['name']}. {text['terms']}.\n{text['citation']}.")
    return "\n\n".join(parts) + "\n"


def small_card(record: Mapping[str, Any], threshold: float) -> str:
    """The card of one build.

    Args:
        record: ``training.json`` of the build.
        threshold: Decision threshold of the label.
    """
    real, data = record["film_trimodal"], record["data"]
    reading = record["figures"]["film_reading"]
    drawn = record["coalitions"]
    return _CARD.format(
        parameters=record["parameters"],
        joined=data["joined"]["train"],
        films=data["films"]["train"],
        drawn=data["drawn"]["train"],
        held_joined=data["joined"]["val"],
        held_films=data["films"]["val"],
        held_drawn=data["drawn"]["val"],
        command=COMMAND,
        tested=real["coalitions"]["I"]["auroc"]["n"],
        patients=real["test_patients"],
        auroc=interval(real["coalitions"]["I+T+V"]["auroc"]),
        head=_head(_COLUMNS),
        real="\n".join(
            _real_row(name, row, real["fusion_minus"].get(name))
            for name, row in real["coalitions"].items()
        ),
        read=number(real["attainable"]["film read without error"]),
        blind=number(real["attainable"]["film not looked at"]),
        pair=real["best_pair"],
        holds="holds" if real["holds"] else "DOES NOT HOLD",
        trained=number(reading["trained"]),
        other=number(reading["other"]),
        shuffled=f"{100 * reading['shuffled']:.0f} %",
        synthetic=next(iter(drawn.values()))["n"],
        drawn_rows="\n".join(_drawn_row(name, row) for name, row in drawn.items()),
        threshold=threshold,
    )


def _head(columns: Sequence[str]) -> str:
    rule = "|---" * len(columns) + "|"
    return "| " + " | ".join(columns) + " |\n" + rule


def _real_row(
    name: str, row: Mapping[str, Any], ahead: Mapping[str, Any] | None
) -> str:
    cells = [name, interval(row["auroc"])]
    cells += [
        number(row[score])
        for score in ("auprc", "accuracy", "precision", "recall", "f1", "ece")
    ]
    cells.append(interval(ahead) if ahead else "-")
    return "| " + " | ".join(cells) + " |"


def _drawn_row(name: str, row: Mapping[str, Any]) -> str:
    kept = ("auroc", "ceiling", "accuracy", "precision", "recall", "f1", "ece")
    return f"| {name} | " + " | ".join(number(row[score]) for score in kept) + " |"
