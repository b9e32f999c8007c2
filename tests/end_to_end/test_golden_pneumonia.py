"""The paper's pneumonia case, from the EHR's hook to the card and its evidence."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from model.jobs.explanation import Explanation
from model.jobs.queue import AssessmentQueue, JobView
from model.settings import JobSettings
from model.synthetic import Split, generate
from tests.end_to_end.golden_case import golden
from tests.end_to_end.plugin import ASSESSMENT, Plugin, card


@pytest.fixture(scope="module")
def assessed(plugin: Plugin) -> tuple[dict[str, Any], JobView]:
    """The ready card of the golden patient and the job behind it."""
    shown = card(plugin.ready(golden()["row"]["case_id"]))
    settings = JobSettings.from_environment(plugin.stage.environment())
    queue = AssessmentQueue(settings)
    job = queue.view(shown["extension"][ASSESSMENT]["jobId"])
    queue.close()
    assert job is not None and job.explanation is not None
    return shown, job


def explanation(assessed: tuple[dict[str, Any], JobView]) -> Explanation:
    found = assessed[1].explanation
    assert found is not None
    return found


@pytest.mark.component("A21")
def test_the_card_says_pneumonia(assessed) -> None:
    shown, job = assessed
    display = golden()["expected"]["display"]
    assert shown["summary"].startswith(display)
    assert shown["indicator"] == "warning"
    assert job.prediction is not None
    assert job.prediction.estimates[0].positive
    assert job.prediction.presence == {"image": True, "text": True, "values": True}


@pytest.mark.component("A21")
def test_the_overlays_mass_lies_in_the_zone_of_the_opacity(assessed) -> None:
    (heat_map,) = explanation(assessed).heat_maps
    assert not heat_map.blank
    zone = golden()["expected"]["zone"]
    left, top, width, height = heat_map.box
    rows, columns = len(heat_map.grid), len(heat_map.grid[0])
    inside = total = 0.0
    for r, line in enumerate(heat_map.grid):
        for c, mass in enumerate(line):
            y = top + (r + 0.5) / rows * height
            x = left + (c + 0.5) / columns * width
            total += mass
            if (
                zone["rows"][0] <= y < zone["rows"][1]
                and zone["columns"][0] <= x < zone["columns"][1]
            ):
                inside += mass
    assert inside / total > 0.5


@pytest.mark.component("A21")
def test_the_terms_are_among_the_top_scored_words(assessed) -> None:
    case = golden()
    text = case["row"]["note_masked"].lower()
    ranked = sorted(explanation(assessed).words, key=lambda w: -w.score)
    top = ranked[: case["expected"]["among"]]
    for term in case["expected"]["terms"]:
        start = text.index(term)
        end = start + len(term)
        hits = [w for w in top if start <= w.start and w.end <= end and w.score > 0]
        assert hits, f"{term}: {[(text[w.start:w.end], w.score) for w in ranked]}"


@pytest.mark.component("A21")
def test_both_values_raise_the_estimate(assessed) -> None:
    scores = {v.loinc: v.logit for v in explanation(assessed).values}
    for loinc in golden()["expected"]["raising"]:
        assert scores[loinc] > 0, scores


@pytest.mark.component("A21")
def test_both_values_are_the_top_values(assessed) -> None:
    """14 thousand leukocytes a microlitre and a saturation of 92 % come first."""
    given = golden()["row"]["structured"]
    stated = {item["loinc"]: (item["value"], item["unit"]) for item in given.values()}
    assert stated == {"6690-2": (14.0, "10*3/uL"), "59408-5": (92.0, "%")}
    ranked = sorted(explanation(assessed).values, key=lambda v: -v.importance)
    assert {v.loinc for v in ranked[:2]} == set(stated)


@pytest.mark.component("A21")
def test_one_card_rests_on_evidence_of_this_patient(assessed, plugin: Plugin) -> None:
    """Every sentence names evidence; every resource named is in the patient's chart."""
    shown, _ = assessed
    found = explanation(assessed)
    assert found.narrative and all(line.evidence for line in found.narrative)
    named = {v.reference for v in found.values} | {w.reference for w in found.words}
    (heat_map,) = found.heat_maps
    named |= {heat_map.reference.split("#")[0]}
    kinds = {reference.split("/")[0] for reference in named}
    assert {"Observation", "DocumentReference", "ImagingStudy"} <= kinds
    patient = f"Patient/{golden()['row']['case_id']}"
    for reference in named:
        kind, identifier = reference.split("/")[:2]
        resource = plugin.ehr.store.get(kind, identifier)
        assert resource is not None, reference
        if kind != "Patient":
            assert resource["subject"]["reference"] == patient
    told = {i.split("#")[0] for line in found.narrative for i in line.evidence}
    assert told & named, "the summary speaks of the same evidence"
    assert shown["links"], "the card opens the evidence"


def test_the_case_is_told_by_data_alone(repository) -> None:
    """No source file names the case's terms; its sentence is in no training text."""
    note = golden()["row"]["note_masked"]
    sources = [
        path.read_text(encoding="utf-8")
        for package in ("audit", "cds_hooks", "deploy", "fhir_adapters", "model")
        for path in (repository / package).rglob("*.py")
    ]
    for term in golden()["expected"]["terms"]:
        assert not any(term in source for source in sources), term
    drawn = generate(300, 7, split=Split.TRAIN)
    assert not any(note.split(". ")[0].lower() in c.note.text.lower() for c in drawn)
    grammar = (repository / "model/synthetic/phrases.json").read_text()
    assert note.split(". ")[0] not in grammar


def test_the_note_reached_the_sandbox_as_fhir(plugin: Plugin) -> None:
    """The note went through a DocumentReference, not around the adapters."""
    case_id = golden()["row"]["case_id"]
    document = plugin.ehr.store.get("DocumentReference", f"{case_id}-note")
    assert document is not None
    data = document["content"][0]["attachment"]["data"]
    assert base64.b64decode(data).decode() == golden()["row"]["note_masked"]
