"""Sentences that name a finding or its absence, for zero-shot scores.

The finding prompts are the phrases of the note grammar that speak for the highest and
the lowest severity, so that the vocabulary of the notes is also that of the prompts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from fhir_adapters.patient_record import ClinicalNote, Provenance
from model.baselines.contrastive import DualEncoder
from model.baselines.shared import Shared
from model.inference.tensors import to_tensors
from model.synthetic.note import grammar

#: "X" of the positive and negative pair; the negative is "no X".
FINDINGS: tuple[str, ...] = tuple(
    json.loads(files("model.baselines").joinpath("findings.json").read_text("utf-8"))
)
_SOURCE = Provenance("DocumentReference/prompt", "prompt", "")


@cache
def finding_prompts(severity: str) -> tuple[str, ...]:
    """Phrases of the grammar for one severity ("high", "low"), without gaps to fill."""
    found: list[str] = []
    for rule in grammar()["symbols"].values():
        if isinstance(rule, dict) and rule.get("kind") == "severity":
            phrases = [p for p in rule.get(severity, ()) if "{" not in p]
            found += [f"{p[0].upper()}{p[1:]}." for p in phrases]
    return tuple(found)


def finding_pairs() -> tuple[tuple[str, str], ...]:
    """("X", "no X") for every finding."""
    return tuple((f"{name}.", f"no {name}.") for name in FINDINGS)


@torch.no_grad()
def embed_prompts(shared: Shared, model: DualEncoder, prompts: Sequence[str]) -> Tensor:
    """Prompts in the shared space, through the note encoder and tower: (k, P)."""
    base = shared.training.data.records[0]
    moment: datetime = base.cutoff
    records = [
        replace(base, notes=(ClinicalNote(text, moment, "prompt", _SOURCE),))
        for text in prompts
    ]
    inputs = to_tensors(records, shared.vocabulary)
    tokens = shared.model.text_encoder(inputs.input_ids, inputs.attn)  # (k, Nt, D)
    embedded: Tensor = model.text(tokens, inputs.attn).whole  # (k, P)
    return embedded


def prompt_margin(films: Tensor, for_it: Tensor, against_it: Tensor) -> Tensor:
    """Similarity to the mean of prompts for a finding minus that against it: (n,)."""
    return films @ (for_it.mean(0) - against_it.mean(0))
