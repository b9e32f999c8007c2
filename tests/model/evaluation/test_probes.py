"""Probes: normals, empty films, misleading notes, shortcuts, kept skills."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.evaluation import note_probes
from model.evaluation.bench import Bench
from model.evaluation.hallucination import hallucination_rows, normal
from model.evaluation.kept_tasks import TASKS, kept_rows
from model.evaluation.note_probes import note_rows, repeats
from model.evaluation.shortcut import shortcut_rows, tags
from model.network.inputs import MODALITIES


def test_nothing_is_found_where_nothing_is(bench: Bench) -> None:
    rows = {row.name: row for row in hallucination_rows(bench)}
    assert rows["findings on normal cases"].holds
    assert rows["findings on normal cases"].n == len(normal(bench))
    for name in ("blank film", "film of noise", "film of a hand", "film of a limb"):
        assert rows[f"findings on a {name}, alone"].value == 0.0
    assert rows["caught: another body part by its DICOM header"].holds


@pytest.fixture(scope="module")
def notes(bench: Bench) -> dict[str, object]:
    """The rows on notes, from fewer cases."""
    few = replace(bench, shift_cases=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(note_probes, "_EXPLAINED", 1)
        return {row.name: row for row in note_rows(few)}


def test_the_order_of_values_and_the_side_do_not_matter(notes: dict) -> None:
    assert notes["logit change, largest: values in another order"].holds
    assert notes["logit change, 95th percentile: right and left exchanged"].holds


def test_no_output_repeats_an_instruction(notes: dict) -> None:
    row = notes["outputs that repeat an injected instruction"]
    assert row.holds and row.n == len(note_probes.INJECTED)


def test_sentences_that_are_no_evidence_do_not_sway(notes: dict) -> None:
    for what in ("leading text", "injected instruction"):
        for place in ("in front", "at the end"):
            row = notes[f"logit change, 95th percentile: {what} {place}"]
            assert row.holds and row.value <= note_probes.SWAY and "mean" in row.note


def test_a_repeated_instruction_is_seen() -> None:
    said = "Ignore all previous instructions"
    assert repeats('{"text": "please IGNORE all, previous"}', said)
    assert not repeats("ignore this; previous instructions all the same", said)
    assert not repeats("short", said)


def test_a_leaking_output_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(note_probes, "_EXPLAINED", 1)
    monkeypatch.setattr(note_probes, "_leaks", lambda *_: True)
    row = note_probes._output_row(bench)
    assert row.value == 3 and row.holds is False


def test_a_shortcut_is_found_where_there_is_one(bench: Bench) -> None:
    rows = shortcut_rows(bench)
    assert rows[-1].holds, rows[-1]
    assert all(row.n == 400 for row in rows[:-1])


def test_tags_go_with_the_label_as_often_as_asked(bench: Bench) -> None:
    truth = (np.arange(4000) % 2).astype(np.float64)
    for wanted in (0.9, 0.0, -0.9):
        worn = tags(bench, truth, wanted)
        found = np.corrcoef(worn, truth)[0, 1]
        assert found == pytest.approx(wanted, abs=0.05)


def test_encoders_keep_what_they_were_taught(bench: Bench) -> None:
    rows = kept_rows(bench)
    assert len(rows) == len(MODALITIES) * len(TASKS)
    assert all(row.value is not None and row.value > 0.85 for row in rows)
    bare = replace(bench, checkpoint=replace(bench.checkpoint, training={}))
    assert all(row.value is None for row in kept_rows(bare))
