"""How a gathering ended is known for as long as its link can be opened."""

from __future__ import annotations

import pytest

from cds_hooks.endings import KEPT_S, Ending, Endings


class Clock:
    """Monotonic seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_ending_is_kept_for_the_life_of_a_session() -> None:
    clock = Clock()
    endings = Endings(clock)
    endings.add("a", Ending("job", ""))
    clock.now += KEPT_S - 1
    endings.add("b", Ending(None, "gather_timeout"))
    assert endings.get("a") == Ending("job", "")
    clock.now += 2
    assert endings.get("a") is None
    assert endings.get("b") == Ending(None, "gather_timeout")
    assert endings.get("c") is None


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds_hooks.endings.MAX_KEPT", 3)
    endings = Endings()
    for number in range(5):
        endings.add(str(number), Ending(None, "x"))
    assert [n for n in range(5) if endings.get(str(n))] == [2, 3, 4]
