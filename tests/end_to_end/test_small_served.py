"""The plugin serves the checkpoint of real films and real language as any other."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.end_to_end.plugin import ASSESSMENT, SMALL, Plugin, card, state
from tests.end_to_end.test_hook_to_card import browse, launch

PATIENT = "synthetic-20-1"
#: An explanation of this checkpoint takes some seconds of a free core.
SECONDS = 240.0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """A plugin of this module's own, with the small checkpoint and one patient."""
    running = Plugin.at(tmp_path_factory.mktemp("small"), SMALL)
    running.patients(1)
    running.start("ehr", "web", "worker")
    yield running
    running.stop()


def test_the_card_names_data_test_and_figure(small: Plugin) -> None:
    shown = card(small.ready(PATIENT, SECONDS))
    detail = shown["detail"]
    assert "investigational" in detail.lower()
    assert re.search(r"AUROC 0\.\d+", detail)
    assert "film-trimodal" in detail and "NIH" in detail
    assert set(shown["extension"][ASSESSMENT]["contributions"]) == {
        *("image", "text", "values")
    }


def test_a_card_comes_within_the_deadline_ready_or_not(small: Plugin) -> None:
    """The worker's time is not the hook's."""
    small.ready(PATIENT, SECONDS)
    answer = small.hook(PATIENT)
    assert answer.elapsed_ms < 2000
    assert state(answer) == "ready"


def test_the_evidence_page_draws_film_words_and_values(small: Plugin) -> None:
    small.ready(PATIENT, SECONDS)
    with browse(small) as browser:
        page: httpx.Response = launch(small, browser, PATIENT)
        assert page.status_code == 200, page.text
        film = browser.get(f"{page.url}/film.png")
    assert film.headers["content-type"] == "image/png"
    for part in ("<mark", "Measured values", "Leukocytes"):
        assert part in page.text, part
