"""Hostile bundles: typed errors or a record that adds up, and the run notices else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fhir_adapters.assemble import assemble
from fhir_adapters.bundle import walk
from fhir_adapters.errors import AdapterError, UnknownUnitError
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.policy import AdapterPolicy
from tests.fhir_adapters.fhir_samples import CUTOFF, bundle, observation, patient
from tests.fuzz import __main__ as command
from tests.fuzz import bundles
from tests.fuzz.bundles import fuzz_bundles, read_one, to_bytes
from tests.fuzz.mutate import mutate, mutate_bytes, sample_charts
from tests.fuzz.outcome import MAX_ESCAPED, Fuzzed
from tests.fuzz.page import markdown

CORPUS = Path(__file__).parent / "corpus"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())


def one(data: bytes) -> Fuzzed:
    found = Fuzzed()
    read_one(data, "here", found, random.Random(1))
    return found


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda p: p.stem)
def test_an_input_that_once_mattered_still_ends_as_it_should(path: Path) -> None:
    data = path.read_bytes()
    policy = AdapterPolicy(pdf_seconds=60.0)
    try:
        received = list(walk(parse_json(data), "fhir"))
        record = assemble(patient(), received, (), cutoff=CUTOFF, policy=policy)
    except AdapterError as error:
        found: dict[str, Any] = {"error": type(error).__name__, "reason": error.reason}
    else:
        skips = record.skip_counts()
        notes = len(record.notes)
        found = {"used": len(record.history), "notes": notes, "skipped": skips}
    assert found == EXPECTED[path.stem]


def test_every_input_of_the_corpus_has_its_answer() -> None:
    assert {path.stem for path in CORPUS.glob("*.bin")} == EXPECTED.keys()
    assert len(EXPECTED) >= 30


def test_two_thousand_bundles_end_in_records_or_typed_errors() -> None:
    found = fuzz_bundles(2_000, seed=20260301, progress=False, real=command.real_data())
    assert found.escaped == []
    assert found.holds and found.examples == 2_000
    # A run whose inputs are all refused at the door tests the door alone.
    assert found.read > 1_000
    assert {"MalformedResourceError", "ResourceTooLargeError"} <= found.refused.keys()
    assert found.slowest_s < 5.0


def test_the_same_seed_draws_the_same_inputs() -> None:
    def drawn(seed: int) -> list[bytes]:
        chooser = random.Random(seed)
        charts = (mutate(c, chooser) for c in sample_charts(with_pdf=True))
        data = to_bytes(bundle(*charts))
        return [data, mutate_bytes(data, chooser), mutate_bytes(b"", chooser)]

    assert drawn(7) == drawn(7) != drawn(8)
    assert drawn(7)[2] == b""


def test_numbers_are_sent_digit_by_digit() -> None:
    made = parse_json(to_bytes({"value": observation()["valueQuantity"]["value"]}))
    assert made == {"value": 140}
    assert b"\\ud800" in to_bytes({"text": "\ud800"})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError"),
        (RecursionError(), "RecursionError"),
        (MemoryError("all of it"), "MemoryError"),
    ],
)
def test_an_error_outside_the_tree_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(bundles, "read_chart", broken)
    found = one(b"{}")
    assert not found.holds
    assert found.escaped[0].startswith(f"here: {said}")


def test_a_typed_error_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise UnknownUnitError()

    monkeypatch.setattr(bundles, "read_chart", refusing)
    found = one(b"{}")
    assert found.holds and found.refused == {"UnknownUnitError": 1}


def test_a_hang_is_stopped_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(bundles, "read_chart", endless)
    monkeypatch.setattr(bundles, "HANG_S", 0.2)
    assert one(b"{}").escaped == ["here: HangError: above 0.2 s of CPU"]
    slow = Fuzzed()
    slow.took(5.1, "7:1")
    assert slow.escaped == ["7:1: took 5.1 s"] and slow.slowest_s == 5.1


def test_a_record_that_does_not_add_up_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = to_bytes(bundle(observation()))
    assert one(data).holds
    monkeypatch.setattr(bundles, "assemble", lambda *_, **__: _without_account(data))
    assert "0 of 1 Observations" in one(data).escaped[0]


def _without_account(data: bytes) -> object:
    return assemble(patient(), [], (), cutoff=CUTOFF)


def test_findings_are_bounded() -> None:
    found = Fuzzed()
    for number in range(200):
        found.escape(str(number), "x" * 1_000)
    assert len(found.escaped) == MAX_ESCAPED
    assert max(map(len, found.escaped)) == 300


def test_the_command_prints_both_kinds_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIVIUM_DATA", raising=False)
    page = tmp_path / "fuzz.md"
    arguments = ["--examples", "90", "--seed", "3", "--json", "--markdown", str(page)]
    assert command.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seed"] == 3 and found["real_resources"] == 0 and found["holds"]
    assert (found["bundles"]["examples"], found["dicom"]["examples"]) == (90, 10)
    assert page.read_text() == markdown(found)
    assert "--examples 90 --seed 3" in page.read_text()
    found["bundles"]["escaped"] = ["3:1: KeyError"]
    assert "- `3:1: KeyError`" in markdown(found)


def test_an_escape_fails_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIVIUM_DATA", raising=False)
    monkeypatch.setattr(bundles, "read_chart", lambda *_: {}["gone"])
    assert command.main(["--examples", "9", "--seed", "3"]) == 1
    assert "KeyError" in capsys.readouterr().out
