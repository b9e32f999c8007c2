"""Proof that each lint gate can fail: every tool meets a file it must refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def run(tool: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / tool), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )


def skeleton(repository: Path, folder: Path) -> None:
    """The four packages with empty modules, under the real import contracts."""
    shutil.copy(repository / "setup.cfg", folder)
    for package in ("audit", "cds_hooks", "fhir_adapters", "model"):
        for source in (repository / package).rglob("*.py"):
            target = folder / source.relative_to(repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text('"""Empty."""\n')


@pytest.mark.parametrize(
    ("tool", "arguments", "bad"),
    [
        ("black", ("--check",), "x = {  'a':1 }\n"),
        ("flake8", (), "import os\n"),
        (
            "isort",
            ("--check", "--settings-file", "setup.cfg"),
            "import sys\nimport os\n",
        ),
        ("mypy", ("--config-file", "setup.cfg"), "def f(x):\n    return x\n"),
    ],
)
def test_gate_refuses_a_bad_file(
    tool: str, arguments: tuple[str, ...], bad: str, repository: Path, tmp_path: Path
) -> None:
    config = (repository / "setup.cfg").read_text()
    (tmp_path / "setup.cfg").write_text(
        config.replace("packages = audit, cds_hooks, fhir_adapters, model", "")
    )
    (tmp_path / "bad.py").write_text(bad)
    assert run(tool, *arguments, "bad.py", cwd=tmp_path).returncode == 1
    (tmp_path / "good.py").write_text("VALUE: int = 1\n")
    good = run(tool, *arguments, "good.py", cwd=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cds_hooks/service_call.py", "import torch\n"),
        ("model/jobs/store.py", "import transformers\n"),
        ("model/jobs/store.py", "import model.network.fusion\n"),
        ("cds_hooks/service_call.py", "import model.inference.worker\n"),
        ("cds_hooks/service_call.py", "import sqlalchemy\n"),
        ("audit/log.py", "import fhir_adapters.bundle\n"),
        ("model/inference/predictor.py", "import audit.log\n"),
        ("fhir_adapters/assemble.py", "import cds_hooks.card\n"),
        ("fhir_adapters/units.py", "import httpx\n"),
        ("fhir_adapters/bundle.py", "import fhir_adapters.access.outbound\n"),
    ],
)
def test_import_contract_refuses(
    module: str, line: str, repository: Path, tmp_path: Path
) -> None:
    skeleton(repository, tmp_path)
    target = tmp_path / module
    assert target.exists(), "the contract names a module that is gone"
    target.write_text('"""Breaks a rule."""\n\n' + line)
    broken = run("lint-imports", "--no-cache", cwd=tmp_path)
    assert broken.returncode == 1, broken.stdout + broken.stderr


def test_import_contracts_keep_an_empty_tree(repository: Path, tmp_path: Path) -> None:
    skeleton(repository, tmp_path)
    kept = run("lint-imports", "--no-cache", cwd=tmp_path)
    assert kept.returncode == 0, kept.stdout + kept.stderr


def test_the_coverage_gate_refuses_untested_lines(
    repository: Path, tmp_path: Path
) -> None:
    config = (repository / "setup.cfg").read_text()
    names = "source =\n    audit\n    cds_hooks\n    fhir_adapters\n    model\n"
    assert names in config
    (tmp_path / "setup.cfg").write_text(config.replace(names, "source = .\n"))
    (tmp_path / "half.py").write_text(
        "import sys\nif len(sys.argv) > 1:\n    a = 1\n    b = 2\n    c = 3\n"
    )
    assert run("coverage", "run", "half.py", cwd=tmp_path).returncode == 0
    assert run("coverage", "combine", "--keep", cwd=tmp_path).returncode == 0
    report = run("coverage", "report", cwd=tmp_path)
    assert report.returncode == 2, report.stdout + report.stderr
    assert "less than fail-under" in report.stdout + report.stderr
