"""SynthTriModal: tri-modal cases with a known truth and a known best score."""

from __future__ import annotations

from model.synthetic.case import SynthCase
from model.synthetic.generate import Knobs, generate
from model.synthetic.latents import Split

__all__ = ["Knobs", "Split", "SynthCase", "generate"]
