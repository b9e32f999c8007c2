"""The film report as a page of the documentation, with a picture of bars."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.films.folder import NIH
from model.films.report_plot import draw
from model.films.report_text import tables

Figures = Mapping[str, Any]

_TITLE = "# Real films"
_INTRO = """\
What the image encoder reads off real chest films, beside what needs no encoder. Every
figure on this page is printed by the last command of the recipe at its end.

Intervals are 95 %, over patients. Sources are never mixed: each has its own rows, head
and baselines. *pixels* is a logistic regression on 100 principal components of the film
at 32 x 32, *rim* the same on its outer three pixels, *person* on age, sex and view; all
are fitted again for every report. Thresholds of accuracy, precision, recall and F1 are
chosen on validation patients. Not for clinical use."""
_RECIPE = """\
## Recipe

On one processor core; films decode once into `build/films/cache`. First at 128 pixels,
then a short run at 192 pixels from those weights, with boxes and rendered films: the
encoder. The pair with and without boxes goes on from the same weights at 128 pixels
and differs in nothing else. The model of the official split is a shorter run at 96
pixels from scratch: the film of a test patient must not have been in its start.

{commands}"""
_OBSTACLES = """\
## What stands in the way of +0.10

- **Films and time.** The NIH part has {films} training films; published encoders of
  these findings saw a hundred thousand. On the films that taught it this encoder has a
  mean AUROC of {taught}, on those of other patients {tested}: it does not remember its
  films yet, and more films or more epochs are the first thing to try.
- **Labels.** They are mined from reports. Infiltration, Consolidation, Pneumonia and
  Atelectasis overlap, and "no finding" means that nothing was mined. No reader agrees
  with such labels better than the films allow.
- **Pixels.** At {size} x {size} thin pneumothorax lines and small nodules are partly
  lost; the films themselves hold 256 pixels at most.
- **The pixel baseline uses more than lesions.** View, habitus and carrier help it: the
  outer three pixels alone have {rim}.
- **Few positives.** Most findings have 20 to 80 test positives, so the intervals of
  single findings are wide; the mean is the figure to look at."""
_SOURCES = """\
## Sources

- NIH ChestX-ray14: NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC;
  Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. CVPR 2017, 3462-3471.
- Kermany D, Zhang K, Goldbaum M. Mendeley Data V2, 2018, doi 10.17632/rscbjbr9sj.2
  (CC BY 4.0; resized); Kermany DS et al. Cell 2018;172:1122-1131.
- NLM Montgomery and Shenzhen sets: Jaeger S et al. Quant Imaging Med Surg
  2014;4(6):475-477; Candemir S et al. IEEE TMI 2014;33:577-590. Their films are in no
  weights, because their terms are a research release: the encoder is frozen, and a
  logistic regression on its features is fitted for the report and thrown away.

NIH labels are mined from reports, "no finding" means that nothing was mined, and the
films are a convenience sample: prevalences are not clinical."""
#: The commands that make every run of the page, in order.
RECIPE = """\
trivium-model films train --data FILMS --out build/films/p128 --size 128 \\
    --epochs 60 --until 40 --share 0.15 --patience 99
trivium-model films train --data FILMS --out build/films/small \\
    --start build/films/p128 --epochs 10 --rate 8e-4 --share 0.2 --patience 99 \\
    --rendered 1500 --boxes 0.3 --seed 8
trivium-model films train --data FILMS --out build/films/official --official \\
    --size 96 --epochs 30 --share 0.15 --patience 99
trivium-model films train --data FILMS --out build/films/without-boxes --size 128 \\
    --start build/films/p128 --epochs 5 --rate 5e-4 --share 0.1 --patience 99
trivium-model films train --data FILMS --out build/films/with-boxes --size 128 \\
    --start build/films/p128 --epochs 5 --rate 5e-4 --share 0.1 --patience 99 \\
    --boxes 0.3
trivium-model films masked --data FILMS --out build/films/masked --size 64 \\
    --epochs 6 --films 3000
trivium-model films probe --data FILMS --model build/films/masked \\
    --out build/films/probe.json
trivium-model films report --data FILMS --model build/films/small \\
    --official build/films/official --probe build/films/probe.json --draws 500 \\
    --beside at-128-pixels=build/films/p128 \\
    --beside without-boxes=build/films/without-boxes \\
    --beside with-boxes=build/films/with-boxes \\
    --beside three-together=build/films/p128,build/films/small,build/films/with-boxes \\
    --markdown docs/films.md --maps build/films/maps.png"""


def write_markdown(path: Path, report: Figures) -> None:
    """Write the page; its picture and its JSON beside it under the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    draw(picture, report)
    image = f"![AUROC per finding, and pointing game]({picture.name})"
    recipe = _RECIPE.format(commands=_indented(RECIPE))
    parts = [_TITLE, _INTRO, image, tables(report)]
    parts += [_obstacles(report), recipe, _SOURCES]
    text = "\n\n".join(part for part in parts if part)
    path.write_text(text + "\n", encoding="utf-8")
    data = json.dumps(report, indent=1)
    path.with_suffix(".json").write_text(data + "\n", encoding="utf-8")


def _obstacles(report: Figures) -> str:
    """Words on the goal with the figures of this report; empty without a mean."""
    nih = report["sources"].get(NIH, {})
    if "mean" not in nih:
        return ""
    readers = nih["mean"]["readers"]
    return _OBSTACLES.format(
        films=nih["films"]["train"],
        size=report["training"]["network"]["image"]["size"],
        taught=_number(report["training"]["auroc_on_training_films"]),
        tested=_number(nih["mean"]["auroc"]["value"]),
        rim=_number(readers["rim"]["auroc"]["value"]),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _indented(commands: str) -> str:
    return "\n".join(f"    {line}" for line in commands.splitlines())
