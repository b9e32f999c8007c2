"""The card and the notice that travel with a checkpoint trained on synthetic cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.evaluation.evaluate import FULL
from model.jobs.prediction import Validation

TRAINED_ON = (
    "synthetic cases only (SynthTriModal); no real film, note or measurement has been "
    "seen"
)

NOTICE = """Trivium demonstration checkpoint

Weights, vocabulary, statistics and calibration in this folder were made by the
command in MODEL_CARD.md from synthetic cases that this project generates. They hold no
third-party weights and no patient data. Licence: Apache-2.0, as the rest of Trivium.
"""

_CARD = """# Model card: Trivium demonstration checkpoint

**Investigational. Not for clinical use.** This model has never seen a patient: it was
trained and tested on synthetic cases. Its probabilities mean nothing for real films,
notes or laboratory values. It exists so that the whole plugin, from hook to card, can
be run, tested and shown.

## What it is

A tri-modal network ({preset} preset, {parameters:,} parameters): a vision transformer
for the film, a BERT stack for the note, one token per measurement for the structured
record, gated cross-attention in all directions, one logit per label. Any of the three
modalities may be missing; each presence pattern has its own calibration.

- Label: `pneumonia`, the label of the synthetic generator, shown as "Pneumonia".
- Trained on: {trained_on}, parameter set {set}.
- Cases: {cases:,} for the weights, {held_out:,} for the calibration, {tested:,} for the
  figures below; different seed namespaces, no case in two of them.

## How it was trained

{training}

Rebuilt by:

    {command}

The decision threshold misses at most 10 % of held-out positives with all three
modalities present (conformal risk control); for other patterns that share is not
guaranteed.

## Figures

AUROC {auroc:.4f} (95 % interval {low:.4f} to {high:.4f}, bootstrap over {n:,} cases)
with all three modalities. The ceiling is the score of the exact posterior on the same
cases.

| modalities | AUROC | ceiling | accuracy | precision | recall | F1 | ECE | Brier |
|---|---|---|---|---|---|---|---|---|
{rows}
{unstaged}
## Limits

- Synthetic films have one simulated lesion each, notes come from a small grammar:
  performance on real data is unknown and must be assumed to be poor.
- Records unlike the synthetic ones are meant to be refused by the out-of-distribution
  limits in `calibration.json`; those limits were set on synthetic cases, too.
- No statement about fairness is possible: sex and age are noise in these cases.
"""

_STAGED = (
    "In stages: each encoder alone on what its own modality shows (severity and\n"
    "pattern; the image encoder also on which patches the lesion covers), then the\n"
    "fusion module on frozen tokens with modality dropout, first on one pooled token\n"
    "per modality, then on all tokens; then calibration on held-out cases."
)
_VARIED = (
    "\n\nA share of the training cases is shown as other sites would have sent them:\n"
    "films turned, scaled and toned, headings in another case, values without flags.\n"
    "Held-out cases are plain."
)
_WATCHED = (
    "\n\nSentences unlike all training notes are not read, and values that look like\n"
    "another unit's are left out; both are said beside the estimate."
)
_EXPLAINED = (
    "\n\nThe fusion also learns that what raises an estimate lies in the lesion and\n"
    "is what it attends to. The loss was kept because it paid on held-out patients:\n"
    "{cost:+.4f} AUROC, relevance inside their lesions {before:.2f} to {after:.2f}."
)
_WHOLE = "End to end from scratch, all parameters at once, with modality dropout."


def model_card(record: Mapping[str, Any], validation: Validation) -> str:
    """The card as Markdown.

    Args:
        record: What goes into ``training.json``.
        validation: The stated figure.
    """
    data = record["data"]
    return _CARD.format(
        preset=record["preset"],
        parameters=record["figures"]["parameters"],
        trained_on=TRAINED_ON,
        set=data["parameters"],
        cases=data["cases"],
        held_out=data["held_out"],
        tested=data["tested"],
        training=how_trained(record),
        command=rebuilt_by(record),
        auroc=validation.value,
        low=validation.low,
        high=validation.high,
        n=validation.n,
        rows="\n".join(_row(name, row) for name, row in record["coalitions"].items()),
        unstaged=_comparison(record),
    )


def how_trained(record: Mapping[str, Any]) -> str:
    """The recipe in words."""
    recipe = _STAGED if record["staged"] else _WHOLE
    recipe += _VARIED if record["data"].get("varied") else ""
    guard = record["figures"].get("explanation_guard", {})
    if guard.get("on"):
        mass = guard["film_mass_of_unseen_patients"]
        recipe += _EXPLAINED.format(
            cost=-guard["auroc_cost"], before=mass["without"], after=mass["with_it"]
        )
    return recipe + (_WATCHED if record.get("settings", {}).get("watch") else "")


def rebuilt_by(record: Mapping[str, Any]) -> str:
    """The command that trains this checkpoint again."""
    varied = record["data"].get("varied")
    flag = "" if record["staged"] else " --unstaged"
    flag += "" if varied else " --plain"
    command = (
        f"trivium-model train --preset {record['preset']} --data synthetic "
        f"--cases {record['data']['cases']} --seed {record['seeds']['train']}{flag}"
    )
    if record.get("settings", {}).get("watch") and not varied:
        command += " --out plain\n    trivium-model refit plain --out checkpoint"
    return command


def _row(name: str, row: Mapping[str, float]) -> str:
    return (
        f"| {name} | {row['auroc']:.4f} | {row['ceiling']:.4f} | {row['accuracy']:.3f} "
        f"| {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} "
        f"| {row['ece']:.3f} | {row['brier']:.3f} |"
    )


def _comparison(record: Mapping[str, Any]) -> str:
    """One paragraph on the end-to-end run, where there was one."""
    other = record["unstaged"]
    if other is None:
        return ""
    return (
        "\nThe same network trained end to end from scratch "
        f"({other['cases']:,} cases, {other['epochs']} epochs) reaches "
        f"{other['coalitions'][FULL]['auroc']:.4f} with all three modalities.\n"
    )
