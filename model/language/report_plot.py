"""The held-out loss of masked words over the pieces read, as a small SVG."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from model.errors import ConfigurationError
from model.evaluation.plots import BLUE, GREY, RED, svg


def loss_plot(report: dict[str, Any]) -> str:
    """Training and held-out loss beside guessing by frequency.

    Args:
        report: What a run of masked-word training left in its ``history.json``.

    Returns:
        One SVG element; the same report gives the same text.

    Raises:
        ConfigurationError: nothing was measured.
    """
    history = report["history"]
    if not history:
        raise ConfigurationError("the run has no measured step")
    figure = Figure(figsize=(5.0, 2.8))
    axes = figure.subplots()
    read = [item["pieces_read"] / 1e6 for item in history]
    for key, name, colour in (
        ("train_loss", "train", GREY),
        ("held_out_loss", "held out", BLUE),
    ):
        axes.plot(read, [item[key] for item in history], color=colour, label=name)
    level = report["final"]["single_pieces"]["loss"]
    axes.axhline(level, ls=":", color=RED, label="guessing by frequency")
    axes.set(xlabel="word pieces read (millions)", ylabel="loss (nats a hidden piece)")
    axes.legend(frameon=False)
    return svg(figure, "masked-words")
