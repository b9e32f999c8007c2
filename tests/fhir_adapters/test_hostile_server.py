"""The clients against the hostile server: typed ends, bounded time, bounded memory.

``python -m tests.hostile`` runs every case and prints the figures; these run the worst.
"""

from __future__ import annotations

import json

import pytest

from tests.hostile import __main__ as hostile
from tests.hostile.client import MAX_BYTES


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("read:gzip", marks=pytest.mark.ssrf("X35")),
        pytest.param("search:values", marks=pytest.mark.ssrf("X40")),
        pytest.param("chart:looped", marks=pytest.mark.ssrf("X39")),
        pytest.param("chart:wrong", marks=pytest.mark.ssrf("X32")),
        pytest.param("read:head_drip", marks=pytest.mark.ssrf("X38")),
        pytest.param("metadata:metadata", marks=pytest.mark.ssrf("X17", "X40")),
    ],
)
def test_an_attack_ends_typed_and_within_bounds(name: str) -> None:
    rows = hostile.run(only=name, quiet=True)
    assert rows and [row for row in rows if not row["ok"]] == []


def test_the_bounds_are_those_of_the_clients_own_limits() -> None:
    assert hostile.MAX_MEMORY_MB * 2**20 <= 2 * MAX_BYTES
    assert hostile.MAX_SECONDS < 10


def test_a_call_that_breaks_a_bound_or_crashes_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"seconds": 9.0, "memory_mb": 1.0, "reason": "r"}
    answer = {**found, "result": "UpstreamTimeoutError"}
    monkeypatch.setattr(hostile, "attack", lambda *_: answer)
    assert hostile.main(["--only", "head_drip", "--json"]) == 1
    answer["seconds"] = 1.0
    assert hostile.main(["--only", "head_drip", "--json"]) == 0
    assert hostile.main(["--only", "nothing of that name"]) == 1
    printed = capsys.readouterr()
    assert "BAD read" in printed.err and '"ok": true' in printed.out
    (row,) = json.loads(printed.out.split("}\n{")[0] + "}")["cases"]
    assert row["ok"] is False
    assert "| **no** |" in hostile.page([row])
    monkeypatch.undo()
    assert hostile.attack("no call", "drip", "http://127.0.0.1:9")["result"] == "CRASH"
