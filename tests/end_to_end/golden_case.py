"""Puts the golden case into a sandbox EHR: its film drawn, its row imported."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.sandbox.import_cases import CaseFilter, import_folder
from deploy.sandbox.store import Store
from model.synthetic.case import Lobe
from model.synthetic.latents import ImagePattern, Severity
from model.synthetic.render import render_film

GOLDEN = Path(__file__).parent / "golden" / "pneumonia.json"


def golden() -> dict[str, Any]:
    """The case and what is expected of it."""
    case: dict[str, Any] = json.loads(GOLDEN.read_text())
    return case


def add_golden_case(store: Store, folder: Path) -> str:
    """Draw the film, write a one-case folder, import it; the patient's id."""
    case = golden()
    film = case["film"]
    drawn = render_film(
        Severity[film["severity"]],
        ImagePattern[film["pattern"]],
        Lobe(film["lobe"]),
        np.random.default_rng(film["seed"]),
        film["size"],
        distractor_rate=0.0,
    )
    (folder / "images").mkdir(parents=True)
    grey = np.round(drawn.image * 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / case["row"]["image"], quality=95)
    (folder / "cases.jsonl").write_text(json.dumps(case["row"]))
    today = datetime.now(UTC).date()
    return import_folder(folder, store, CaseFilter(), today, quiet=True)[0]
