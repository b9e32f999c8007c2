"""The rules of the house that a machine can check; each has a test that it can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("audit", "cds_hooks", "fhir_adapters", "model")

# A file above 400 lines must stand here and say why at its top.
LONG_MODULES: frozenset[str] = frozenset()
# A function above 50 lines (without its docstring) must stand here with a reason.
LONG_FUNCTIONS = frozenset(
    {
        # One statement a table: splitting a migration would hide its order.
        "audit/migrations/evidence/versions/r0001_first.py:upgrade",
        "audit/migrations/keys/versions/r0001_first.py:upgrade",
        # One constructor call and the draws that fill it, in the order of the draws.
        "model/synthetic/generate.py:_case",
    }
)
# The two boundaries that may catch everything; both audit or record what they caught.
CATCH_ALL = frozenset(
    {"cds_hooks/service_call.py", "model/inference/worker.py"},
)
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "misc"}
FORBIDDEN_CALLS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("joblib", "load"),
    ("torch", "load"),
    ("yaml", "load"),
    ("os", "system"),
}


def sources(root: Path) -> Iterator[tuple[str, ast.Module, str]]:
    """Every module of the four packages: relative path, tree, text."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            yield str(path.relative_to(root)), ast.parse(text), text


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body
    if ast.get_docstring(node) and len(body) > 1:
        body = body[1:]
    return (node.end_lineno or 0) - body[0].lineno + 1


def swallowed(tree: ast.AST) -> list[int]:
    """Lines of broad excepts whose body does not raise."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            if (node.type)
            else {"BaseException"}
        )
        broad = names & {"Exception", "BaseException"}
        if broad and not any(isinstance(n, ast.Raise) for n in ast.walk(node)):
            lines.append(node.lineno)
    return lines


def undocumented(tree: ast.Module) -> list[str]:
    """Public module-level names, and the module, that lack a docstring."""
    missing = [] if ast.get_docstring(tree) else ["<module>"]
    for node in tree.body:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if named and not node.name.startswith("_") and not ast.get_docstring(node):
            missing.append(node.name)
    return missing


def environment_reads(tree: ast.AST) -> list[int]:
    """Lines that touch os.environ or os.getenv."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "getenv"}
    ]


def forbidden_calls(tree: ast.AST) -> list[int]:
    """Lines that call a loader which can run code, or a shell."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in FORBIDDEN_CALLS
    ]


def imports_of(path: str, tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules of ours that this module imports, lazy imports included."""
    package = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    found: set[str] = set()
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{a.name}" for a in node.names] + [node.module]
        found |= {n for n in names if n in modules and n != package}
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Import cycles by repeated removal of leaves; packages' near-empty inits aside."""
    left = {node: set(targets) for node, targets in graph.items()}
    while True:
        leaves = {n for n, targets in left.items() if not targets & left.keys()}
        if not leaves:
            return [sorted(left)] if left else []
        left = {n: t - leaves for n, t in left.items() if n not in leaves}


def test_modules_are_short_or_listed(repository: Path) -> None:
    long = {p for p, _, text in sources(repository) if text.count("\n") > 400}
    assert long == LONG_MODULES


def test_functions_are_short_or_listed(repository: Path) -> None:
    long = {
        f"{path}:{node.name}"
        for path, tree, _ in sources(repository)
        for node in functions(tree)
        if body_lines(node) > 50
    }
    assert long == LONG_FUNCTIONS


def test_only_the_two_boundaries_swallow_a_broad_except(repository: Path) -> None:
    found = {p for p, tree, _ in sources(repository) if swallowed(tree)}
    assert found <= CATCH_ALL


def test_every_module_and_public_name_has_a_docstring(repository: Path) -> None:
    missing = {p: undocumented(t) for p, t, _ in sources(repository)}
    assert {p: names for p, names in missing.items() if names} == {}


def test_only_settings_read_the_environment(repository: Path) -> None:
    found = {p for p, t, _ in sources(repository) if environment_reads(t)}
    assert {p for p in found if not p.endswith("settings.py")} == set()


def test_nothing_loads_code_with_data(repository: Path) -> None:
    assert {p for p, t, _ in sources(repository) if forbidden_calls(t)} == set()


def test_no_file_is_called_by_a_name_that_says_nothing(repository: Path) -> None:
    assert {
        p for p, _, _ in sources(repository) if Path(p).stem in FORBIDDEN_NAMES
    } == set()


def test_there_is_no_import_cycle(repository: Path) -> None:
    trees = {p: t for p, t, _ in sources(repository)}
    names = {
        p.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for p in trees
    }
    graph = {
        p.removesuffix(".py")
        .replace("/", ".")
        .removesuffix(".__init__"): imports_of(p, t, names)
        for p, t in trees.items()
    }
    assert cycles(graph) == []


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (swallowed, "try:\n    f()\nexcept Exception:\n    pass\n"),
        (swallowed, "try:\n    f()\nexcept:\n    pass\n"),
        (undocumented, "def visible():\n    return 1\n"),
        (environment_reads, "import os\nkey = os.environ['KEY']\n"),
        (forbidden_calls, "import torch\ntorch.load('x')\n"),
        (forbidden_calls, "import torch\ntorch.load('x', weights_only=False)\n"),
    ],
)
def test_each_rule_can_fail(check, bad: str) -> None:
    assert check(ast.parse(bad))


def test_the_cycle_rule_can_fail() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert cycles({"a": {"b"}, "b": set()}) == []
