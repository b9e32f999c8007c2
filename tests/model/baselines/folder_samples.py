"""A folder of made-up cases laid out as a user would, for both tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.synthetic import Split, generate


def write_folder(made: Path, reports: int = 30, hospital: int = 24) -> Path:
    """Cases of two subsets; the answer of each alternates, the year gives it away."""
    (made / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(generate(reports + hospital, 3, split=Split.DEMO)):
        name, answer = f"case-{number}", bool(number % 2)
        grey = np.round(case.image * 255).astype(np.uint8)
        Image.fromarray(grey).save(made / "images" / f"{name}.jpg")
        ward = number >= reports
        rows.append(
            {
                "case_id": name,
                "patient_id": name,
                "group_id": name,
                "split": ("train", "val", "test")[number % 3],
                "subset": "hannover" if ward else "case-reports",
                "primary": True,
                "image": f"images/{name}.jpg",
                "image_size": [64, 64],
                "view": "AP" if answer else "PA",
                "age": None if ward else 50.0,
                "sex": "female" if number % 3 else None,
                "note_masked": None if ward else case.note.text,
                "structured": {
                    "crp": {"value": float(number), "unit": "mg/L", "loinc": "1988-5"}
                },
                "covid19": True if ward else answer,
                "finding_group": "covid19",
                "outcome": {"icu": answer} if ward else {"icu": None},
                "provenance": {
                    "date": "03/09/20" if answer else "in 2015",
                    "original_size": [640, 480],
                },
            }
        )
    lines = "\n".join(json.dumps(row) for row in rows)
    (made / "cases.jsonl").write_text(lines)
    return made
