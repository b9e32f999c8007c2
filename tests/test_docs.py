"""What the documents say is held to the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

NAME = re.compile(r"TRIVIUM_[A-Z0-9_]+")
COMMANDS = ("trivium-model", "trivium-audit")


def settings_names(repository: Path) -> set[str]:
    """Environment names that any settings module reads."""
    names: set[str] = set()
    for package in ("audit", "cds_hooks", "model"):
        for path in (repository / package).rglob("settings.py"):
            names |= set(NAME.findall(path.read_text()))
    return names


def test_the_example_environment_names_every_setting(repository: Path) -> None:
    example = set(NAME.findall((repository / "deploy/env.example").read_text()))
    procfile = set(NAME.findall((repository / "deploy/Procfile").read_text()))
    gunicorn = set(NAME.findall((repository / "deploy/gunicorn.conf.py").read_text()))
    assert example == settings_names(repository) | procfile | gunicorn


def test_the_readme_names_only_verbs_that_the_makefile_has(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    readme = (repository / "README.md").read_text()
    verbs = set(re.findall(r"(?:^    |`)make ([a-z]+)", readme, re.MULTILINE))
    assert verbs >= {"demo", "test"}
    assert verbs <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_the_readme_links_only_to_files_that_exist(repository: Path) -> None:
    for path in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_ten_files_of_the_readme_exist(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    files = re.findall(r"^\| \d+ .*\| `([a-z_/]+\.py)` \|$", readme, re.MULTILINE)
    assert len(files) == 10
    assert all((repository / name).is_file() for name in files)


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_explains_itself(program: str) -> None:
    path = Path(sys.executable).parent / program
    done = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "usage: " + program in done.stdout
    subcommands = re.findall(r"^    ([a-z-]+) ", done.stdout, re.MULTILINE)
    assert len(subcommands) > 1, done.stdout
    for name in subcommands:
        text = subprocess.run(
            [path, name, "--help"], capture_output=True, text=True, timeout=60
        )
        assert text.returncode == 0 and len(text.stdout) > 80, name


def test_no_document_names_a_place_that_only_one_machine_has(repository: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.split()
    texts = (".md", ".py", ".cfg", ".toml", ".yml", ".sh", ".json", ".txt")
    for name in listed:
        if name.endswith(texts) and name != "tests/test_docs.py":
            text = (repository / name).read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(work|root|farm)/", text), name
