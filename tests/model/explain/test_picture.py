"""The picture: what may be drawn, and under which name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from model.explain import picture
from model.explain.asked import Asked
from model.explain.explanation_of import explanation_of
from model.explain.picture import draw
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import Explanation
from model.synthetic.case import SynthCase


@pytest.fixture(scope="module")
def explained(
    demo: LoadedCheckpoint, ill: tuple[SynthCase, Asked]
) -> tuple[Asked, Explanation]:
    return ill[1], explanation_of(ill[1], demo.vocabulary)


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every title that is set."""
    seen: list[str] = []
    plain = Axes.set_title

    def remembered(self: Axes, label: str, *args: object, **more: object) -> object:
        seen.append(label)
        return plain(self, label, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "set_title", remembered)
    return seen


def test_a_map_that_may_be_drawn_is_drawn(
    explained: tuple[Asked, Explanation], titles: list[str], tmp_path: Path
) -> None:
    draw(*explained, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000
    assert titles[:2] == ["film: no region marked", "film: what raised the estimate"]
    assert not any("attention" in title for title in titles)


@pytest.mark.component("A17")
def test_attention_is_drawn_under_its_own_name_only(
    explained: tuple[Asked, Explanation], titles: list[str], tmp_path: Path
) -> None:
    draw(*explained, tmp_path / "one.png", attention=True)
    looked = [title for title in titles if "attention" in title]
    assert looked == [
        "film: attention, not attribution",
        "Words (attention, not attribution)",
    ]


@pytest.mark.component("A16")
def test_a_blank_map_leaves_the_film_bare(
    explained: tuple[Asked, Explanation],
    titles: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, explanation = explained
    overlaid: list[object] = []
    monkeypatch.setattr(picture, "_overlaid", lambda *args: overlaid.append(args))
    blank = tuple(replace(m, blank=True) for m in explanation.heat_maps)
    draw(asked, replace(explanation, heat_maps=blank), tmp_path / "one.svg")
    assert overlaid == [] and "film: what raised the estimate" not in titles


def test_a_case_without_a_film_says_so(
    explained: tuple[Asked, Explanation], titles: list[str], tmp_path: Path
) -> None:
    asked, explanation = explained
    bare = replace(asked, record=replace(asked.record, images=()))
    none = replace(explanation, heat_maps=())
    draw(bare, none, tmp_path / "one.png", attention=True)
    assert titles.count("no film") == 2
