"""Kept for importers; see :mod:`model.evaluation.evaluation_table`."""

from __future__ import annotations

from model.evaluation.evaluation_table import (
    table,
)

__all__ = ["table"]
