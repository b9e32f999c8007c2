"""The report of the SMART checklist sees proofs, failures, gaps and slips."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import smart
from tests.conformance.components import Recorder, read_table

PROGRAM = """
import json, sys
from pathlib import Path
from tests.conformance.components import run
from tests.conformance.smart import report_of
folder = Path(sys.argv[1])
print(json.dumps(report_of(run([str(folder)], folder, ("smart", "ssrf")))))
"""
MARKED = """
import pytest

@pytest.mark.smart("S1", "S2")
@pytest.mark.ssrf("X1")
def test_passing(): pass

@pytest.mark.smart("S2")
def test_failing(): assert False

@pytest.mark.smart("S3")
def test_skipped(): pytest.skip("not here")

@pytest.mark.smart("S35")
def test_slip(): pass

@pytest.mark.component("A1")
def test_of_another_kind(): assert False

def test_unmarked(): assert False
"""


def test_both_lists_are_read_from_one_run(tmp_path: Path, repository: Path) -> None:
    marks = "".join(f"    {m}(id): x\n" for m in ("smart", "ssrf", "component"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{marks}")
    (tmp_path / "test_marked.py").write_text(MARKED)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["total"], report["passed"]) == (34, 1)
    assert "S1" not in report["failing"] and {"S2", "S3"} <= set(report["failing"])
    assert report["tests"]["S1"] == ["test_marked.py::test_passing"]
    assert report["tests"]["S3"] == []
    assert report["ssrf"]["tests"]["X1"] == ["test_marked.py::test_passing"]
    assert report["ssrf"]["passed"] == 1
    assert report["unknown"] == ["S35"]
    assert "another_kind" not in done.stdout and "unmarked" not in done.stdout


def test_the_tables_are_whole() -> None:
    lines = read_table(smart.TABLES["smart"])
    assert [line.id for line in lines] == [f"S{n}" for n in range(1, 35)]
    attacks = read_table(smart.TABLES["ssrf"])
    assert [line.id for line in attacks] == [f"X{n}" for n in range(1, 44)]
    assert all(line.name and line.works for line in (*lines, *attacks))


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {line.id for table in smart.TABLES.values() for line in read_table(table)}
    test = "tests/a/test_x.py::test_it_holds[1]"
    recorder = Recorder({test: ids}, {test: "passed"})
    monkeypatch.setattr(smart, "run", lambda *_: recorder)
    target = tmp_path / "smart.md"
    assert smart.main(["--json", "--markdown", str(target)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["total"], report["passed"], report["failing"]) == (34, 34, [])
    assert set(report["tests"]) | set(report["ssrf"]["tests"]) == ids
    text = target.read_text()
    assert "| S9 |" in text and "`a/test_x.py`: it holds" in text
    assert "34 of 34 lines hold. Not held: none." in text
    recorder.outcomes[test] = "failed"
    assert smart.main([]) == 1
    printed = capsys.readouterr().out
    assert "0 of 34 hold" in printed and f"failed: {test}" in printed
    assert "**no**" in smart.page(smart.report_of(recorder))
    recorder.outcomes[test] = "passed"
    recorder.marks["t"] = {"S99"}
    recorder.outcomes["t"] = "passed"
    assert smart.main([]) == 1
