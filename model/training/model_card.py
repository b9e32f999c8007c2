"""Kept for importers; see :mod:`model.evaluation.model_card`."""

from __future__ import annotations

from model.evaluation.model_card import (
    NOTICE,
    TRAINED_ON,
    model_card,
)

__all__ = ["NOTICE", "TRAINED_ON", "model_card"]
