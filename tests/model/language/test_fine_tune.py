"""The training loop that the heads on a BERT share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.language.fine_tune import (
    FineTuneSettings,
    batches,
    fine_tune,
    pace,
    rates,
)


class _Line(nn.Module):
    """y = head(encoder(x)); both are one number."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 1)
        self.head = nn.Linear(1, 1)
        with torch.no_grad():
            for layer in (self.encoder, self.head):
                layer.weight.fill_(0.5)
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.encoder(x))
        return found


def test_the_rate_rises_and_then_falls_to_nothing() -> None:
    paces = [pace(step, 20, 0.2) for step in range(21)]
    assert paces[0] == pytest.approx(0.25) and max(paces) == paces[3] == 1.0
    assert paces[4:] == sorted(paces[4:], reverse=True) and paces[-1] == 0.0


def test_the_encoder_learns_more_slowly_than_the_head() -> None:
    model = _Line()
    slow, fast = rates(model, model.encoder, FineTuneSettings(rate=1.0))
    assert (slow["lr"], fast["lr"]) == (0.3, 1.0)
    assert slow["params"] == list(model.encoder.parameters())
    assert fast["params"] == list(model.head.parameters())


def test_batches_hold_every_example_once_and_like_lengths() -> None:
    lengths = [10 * (n % 7 + 1) for n in range(50)]
    settings = FineTuneSettings(batch=8)
    found = batches(lengths, settings, 0)
    assert sorted(n for batch in found for n in batch) == list(range(50))
    spread = [max(lengths[n] for n in b) - min(lengths[n] for n in b) for b in found]
    assert max(spread) <= 20
    assert found == batches(lengths, settings, 0) != batches(lengths, settings, 1)


def test_a_line_is_learnt_and_a_rerun_agrees() -> None:
    examples = [(x / 10, 3 * x / 10 + 1) for x in range(-10, 11)]
    settings = FineTuneSettings(epochs=60, rate=0.05, batch=7)

    def run() -> tuple[list[float], _Line]:
        model = _Line()
        x = torch.tensor([[x] for x, _ in examples])
        y = torch.tensor([[y] for _, y in examples])
        losses = fine_tune(
            model,
            model.encoder,
            range(len(examples)),
            settings,
            length=lambda n: 1,
            loss_of=lambda rows: (model(x[list(rows)]) - y[list(rows)]).square().mean(),
            name="line",
            progress=False,
        )
        return losses, model

    losses, model = run()
    assert len(losses) == 60 and losses[-1] < 0.01 < losses[0]
    again, _ = run()
    assert again == losses
    assert model.training
