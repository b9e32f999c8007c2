"""MedQA, VQA-RAD and MIMIC-CDM in small, written for these tests.

python -m tests.model.datasets.question_files FOLDER
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

DISEASES = ("appendicitis", "cholecystitis", "diverticulitis", "pancreatitis")


def medqa_row(number: int, letters: str = "ABCDE") -> dict[str, Any]:
    answer = letters[number % len(letters)]
    row = {
        "question": f"Made-up question number {number}: which letter is right?",
        "answer": f"option {answer}",
        "options": {letter: f"option {letter}" for letter in letters},
        "meta_info": "step1",
        "answer_idx": answer,
    }
    if letters == "ABCD":
        row["metamap_phrases"] = ["made-up question", "letter"]
    return row


def write_medqa(folder: Path) -> Path:
    """Twenty questions in each split of both layouts; no question in two splits."""
    us = folder / "questions" / "US"
    (us / "4_options").mkdir(parents=True, exist_ok=True)
    for place, split in enumerate(("train", "dev", "test")):
        numbers = range(place * 20 + 1, place * 20 + 21)
        five = [json.dumps(medqa_row(n)) for n in numbers]
        four = [json.dumps(medqa_row(n, "ABCD")) for n in numbers]
        (us / f"{split}.jsonl").write_text("\n".join(five) + "\n")
        name = f"phrases_no_exclude_{split}.jsonl"
        (us / "4_options" / name).write_text("\n".join(four) + "\n")
    return folder


def vqa_row(number: int) -> dict[str, Any]:
    closed = number % 2 == 1
    return {
        "qid": number if number % 5 else str(number),
        "image_name": f"synpic{number}.jpg",
        "image_organ": "CHEST",
        "question": f"Made-up question {number}?",
        "answer": "Yes" if closed else number,
        "answer_type": "CLOSED " if closed else "OPEN",
        "question_type": "PRES, POS",
        "phrase_type": ("freeform", "para", "test_freeform")[(number - 1) % 3],
    }


def write_vqa_rad(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, first in (("trainset", 1), ("testset", 101)):
        rows = [vqa_row(n) for n in range(first, first + 24)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def cdm_row(number: int) -> dict[str, Any]:
    return {
        "Patient History": f"___ with {number} days of pain",
        "Physical Examination": "soft abdomen",
        "Laboratory Tests": {
            51301: "14.0 K/uL",
            50889: "<0.5 mg/L",
            51279: "3.0 m/uL",  # not in the item table
            50971: "high",
            50912: "1.0 furlong",
            51300: "13.0 K/uL",  # the same code again
            51237: "1.1",
        },
        "Reference Range Lower": {51301: 4.0, 50889: None, 51237: True},
        "Reference Range Upper": {51301: 10.0, 51237: float("nan")},
        "Microbiology": {},
        "Radiology": [{"Note ID": "x", "Report": "SECRETREPORT"}],
        "Procedures ICD9": [],
        "Discharge Diagnosis": ["SECRETDIAGNOSIS", "pain"],
        "ICD Diagnosis": ["SECRETICD"],
    }


def write_cdm(folder: Path, *, count: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for place, disease in enumerate(DISEASES):
        first = 29100000 + 100 * place
        rows = {first + n: cdm_row(n) for n in range(count)}
        path = folder / f"{disease}_hadm_info_first_diag.pkl"
        path.write_bytes(pickle.dumps(rows))
    return folder


if __name__ == "__main__":
    write_medqa(Path(sys.argv[1]) / "medqa")
    write_vqa_rad(Path(sys.argv[1]) / "vqa-rad")
    write_cdm(Path(sys.argv[1]) / "mimic-cdm")
