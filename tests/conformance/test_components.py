"""The component report can see a proof, a failure, a gap and a slip of the pen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.components import (
    Component,
    Recorder,
    main,
    page,
    proved,
    read_table,
    table_text,
)

# Run apart: a nested pytest would share this one's plugins and warnings.
PROGRAM = """
import json, sys
from pathlib import Path
from tests.conformance.components import Component, proved, run
table = [Component(i, i, "") for i in ("A1", "A2", "A3", "A4", "A5", "A11a", "A11b")]
recorder = run([sys.argv[1]], Path(sys.argv[1]))
print(json.dumps(proved(table, recorder)))
"""
MARKED = """
import pytest

@pytest.mark.component("A1")
def test_passing(): pass

@pytest.mark.component("A2")
def test_failing(): assert False

@pytest.mark.component("A2")
def test_passing_beside(): pass

@pytest.mark.component("A5")
@pytest.mark.xfail(strict=True)
def test_known_to_fail(): assert False

@pytest.mark.component("A5")
def test_beside_what_is_known_to_fail(): pass

@pytest.mark.component("A3")
def test_skipped(): pytest.skip("not here")

@pytest.mark.component("A11a")
def test_part(): pass

@pytest.mark.component("A11")
def test_group(): pass

@pytest.mark.component("A99")
def test_slip(): pass

def test_unmarked(): assert False
"""


def reported(folder: Path, text: str, repository: Path) -> dict[str, Any]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    component(id): x\n")
    (folder / "test_marked.py").write_text(text)
    inner = folder / "inner"  # a folder with a conftest of its own, as in this tree
    inner.mkdir()
    (inner / "conftest.py").write_text("")
    (inner / "test_inner.py").write_text("def test_unmarked_too(): assert False\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_passing_failing_skipped_and_missing_are_told_apart(
    tmp_path: Path, repository: Path
) -> None:
    report = reported(tmp_path, MARKED, repository)
    rows = {row["id"]: row for row in report["components"]}
    assert report["failing"] == ["A2", "A3", "A4", "A5", "A11b"]
    assert rows["A1"]["passed"] == ["test_marked.py::test_passing"]
    assert rows["A2"]["failed"] == ["test_marked.py::test_failing"]
    assert rows["A5"]["failed"] == ["test_marked.py::test_known_to_fail"]
    assert len(rows["A2"]["passed"]) == 1 and len(rows["A3"]["skipped"]) == 1
    assert rows["A11b"]["group"] == ["test_marked.py::test_group"]
    assert report["unknown"] == ["A99"] and report["broken"] == []
    assert "test_unmarked" not in json.dumps(report)


def test_a_file_that_does_not_load_is_named(tmp_path: Path, repository: Path) -> None:
    report = reported(tmp_path, "import nothing_of_that_name\n", repository)
    assert report["broken"] == ["test_marked.py"]


def test_a_failing_test_of_a_group_fails_its_parts() -> None:
    table = [Component("A11a", "a", ""), Component("A11b", "b", "")]
    recorder = Recorder(
        {"t::part": {"A11a"}, "t::group": {"A11"}},
        {"t::part": "passed", "t::group": "failed"},
    )
    report = proved(table, recorder)
    assert report["failing"] == ["A11a", "A11b"] and report["unknown"] == []


def test_a_test_that_never_ran_proves_nothing() -> None:
    table = [Component("A1", "a", "")]
    assert proved(table, Recorder({"t::x": {"A1"}}))["failing"] == ["A1"]


def test_the_table_for_readers_names_what_is_not_proved() -> None:
    text = table_text(proved([Component("A1", "Image encoder", "")], Recorder()))
    assert "A1    NO" in text and "failing: A1" in text and "unknown: none" in text


def test_the_page_names_each_test_once_and_says_what_is_missing() -> None:
    table = [Component("A1", "Image encoder", "It works"), Component("A2", "Text", "")]
    tests = [
        "tests/a/test_x.py::test_it_learns[1]",
        "tests/a/test_x.py::test_it_learns[2]",
    ]
    recorder = Recorder({t: {"A1"} for t in tests}, {t: "passed" for t in tests})
    text = page(proved(table, recorder))
    assert "| A1 | Image encoder | It works | yes | `a/test_x.py`: it learns |" in text
    assert "| A2 | Text |  | **no** |  |" in text and "Not proved: A2." in text


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = {component.id for component in read_table()}
    recorder = Recorder({"t.py::test_all": everything}, {"t.py::test_all": "passed"})
    monkeypatch.setattr("tests.conformance.components.run", lambda paths: recorder)
    target = tmp_path / "components.md"
    assert main(["--json", "--markdown", str(target)]) == 0
    assert json.loads(capsys.readouterr().out)["failing"] == []
    assert "Not proved: none." in target.read_text()
    recorder.outcomes["t.py::test_all"] = "skipped"
    assert main([]) == 1
    assert "failing: A1, " in capsys.readouterr().out


def test_the_table_of_components_is_whole() -> None:
    table = read_table()
    groups = {component.group for component in table}
    assert groups == {f"A{n}" for n in range(1, 28) if n not in (13, 14)}
    assert len({component.id for component in table}) == len(table) == 41
    assert all(component.name and component.works for component in table)


@pytest.mark.parametrize("first", ["passed", "failed"])
def test_a_failing_teardown_is_a_failure(first: str) -> None:
    recorder = Recorder()
    for outcome in (first, "failed", "passed"):
        report = pytest.TestReport("t", ("t", 0, "t"), {}, outcome, None, "call")
        recorder.pytest_runtest_logreport(report)
    assert recorder.outcomes == {"t": "failed"}
