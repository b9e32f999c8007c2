"""The demo's report on the terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sklearn.metrics import roc_auc_score

if TYPE_CHECKING:
    from deploy.demo import Assessed

WIDTH = 88
BAR = 24


def print_card(assessed: Assessed) -> None:
    """The first patient's card, as JSON and as a clinician would read it."""
    card = assessed.card
    print("=" * WIDTH)
    print("The card as JSON\n")
    print(json.dumps(card, indent=2, ensure_ascii=False))
    print("=" * WIDTH)
    print(f"The card as text\n\n[{card['indicator']}] {card['summary']}\n")
    print(card.get("detail", ""))
    print("=" * WIDTH)
    print(f"first card       {assessed.first_ms:8.0f} ms")
    print(f"ready card       {assessed.ready_ms:8.0f} ms")
    print("\nmodality contributions (shares of the absolute Shapley values)")
    for name, share in (assessed.assessment.get("contributions") or {}).items():
        print(f"  {name:7s} {'#' * round(BAR * share):{BAR}s} {share:.0%}")


def print_calls(calls: list[Assessed]) -> None:
    """One line for each patient."""
    print("=" * WIDTH)
    print("patient                  first ms  ready ms  film note values  card")
    for one in calls:
        present = one.assessment.get("presence", {})
        seen = "  ".join(
            " yes" if present.get(m) else "  no" for m in ("image", "text", "values")
        )
        print(
            f"{one.patient:24.24s} {one.first_ms:8.0f} {one.ready_ms:9.0f} {seen}   "
            f"{one.card['summary']}"
        )


def print_study(calls: list[Assessed], labels: dict[str, bool]) -> None:
    """How the cards of a folder's test cases fit their labels; few, so a wide guess.

    Args:
        calls: one for each patient.
        labels: case id to label, for the cases that may enter a figure.
    """
    scored = [
        (labels[c.patient], c.assessment["estimates"][0]["probability"])
        for c in calls
        if c.patient in labels and c.assessment.get("estimates")
    ]
    truth = [label for label, _ in scored]
    print("=" * WIDTH)
    print(f"{len(calls)} cards, {len(scored)} of them in the figure below")
    if len(set(truth)) == 2:
        area = roc_auc_score(truth, [score for _, score in scored])
        print(f"AUROC on these {len(scored)} test patients: {area:.2f}")
        print("(far too few to say much; the card's own figure is cross-validated)")


def print_audit(report: dict[str, Any]) -> None:
    """The verdict on the audit log."""
    print("=" * WIDTH)
    verdict = "verified" if report["verified"] else "NOT VERIFIED"
    print(f"audit log        {verdict}, {report['records']} records")
    for finding in report.get("findings", []):
        print(f"  {finding}")
