"""The shared start of all methods: cases, encoders, kept weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.baselines.shared import (
    COALITION_KEYS,
    WEIGHTS_FILE,
    encoder_weights,
    load_encoders,
    pattern_of,
    prepare_shared,
)
from model.errors import CheckpointError
from tests.model.baselines.samples import SETTINGS, shared

FEW = replace(SETTINGS, cases=50, held_out=50, tested=50)


def test_kept_encoders_give_the_same_tokens_without_training_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_shared(FEW, 7, tmp_path)
    monkeypatch.setattr("model.baselines.shared.train_encoder", None)  # not again
    second = prepare_shared(FEW, 7, tmp_path)
    assert torch.equal(first.tested.tokens.text, second.tested.tokens.text)
    assert torch.equal(first.tested.tokens.image, second.tested.tokens.image)
    assert first.tested.truth.tolist() == second.tested.truth.tolist()
    apart = (first.training, first.held_out, first.tested)
    assert len({part.cases[0].note.text for part in apart}) == 3


def test_damaged_or_foreign_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_encoders(shared().network(), tmp_path / WEIGHTS_FILE)
    from safetensors.torch import save_file

    some = dict(list(encoder_weights(shared().model).items())[:3])
    save_file(some, tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_encoders(shared().network(), tmp_path / WEIGHTS_FILE)


def test_every_fusion_starts_from_the_shared_encoders() -> None:
    wanted = encoder_weights(shared().model)
    for fusion in ("catm", "late", "concat"):
        network = shared().network(fusion)
        assert network.config.fusion == fusion
        got = encoder_weights(network)
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_posteriors_are_of_these_cases_and_patterns_match_names() -> None:
    chances = shared().tested.posteriors
    assert tuple(chances) == COALITION_KEYS
    assert all(len(x) == SETTINGS.tested for x in chances.values())
    assert not np.array_equal(chances["image"], chances["text"])
    assert pattern_of("image+values") == (True, False, True)
    assert pattern_of("text") == (False, True, False)
