"""A fuzzing run as a page of the documentation."""

from __future__ import annotations

from typing import Any

_KINDS = (("bundles", "FHIR bundles"), ("dicom", "DICOM files"))


def markdown(found: dict[str, Any]) -> str:
    """Figures, seed and the command that measures them again."""
    examples, seed = found["bundles"]["examples"], found["seed"]
    lines = [
        "# Fuzzing",
        "",
        f"Written by `python -m tests.fuzz --examples {examples} --seed {seed} "
        "--markdown docs/fuzz.md`",
        f"on {found['date']}, with {found['real_resources']:,} real resources to "
        "mutate (`TRIVIUM_DATA`). `make test` runs 2,000.",
        "",
        "Bundles go from bytes to a record in one process; DICOM files go through the "
        "limited child. *Refused* is a typed error",
        "of the tree in `fhir_adapters/errors.py`; *read* is a result, be it with "
        "skips. An input above 5 s counts as escaped.",
        "",
        "| | " + " | ".join(title for _, title in _KINDS) + " |",
        "|---|" + "---|" * len(_KINDS),
    ]
    for key, title in (
        ("examples", "inputs"),
        ("read", "read"),
        ("seconds", "seconds in all"),
        ("slowest_s", "slowest input, seconds"),
        ("peak_mib", "largest resident memory, MiB"),
    ):
        cells = (f"{found[kind][key]:,}" for kind, _ in _KINDS)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    escaped = (str(len(found[kind]["escaped"])) for kind, _ in _KINDS)
    lines.append("| escaped | " + " | ".join(escaped) + " |")
    lines += ["", "Refusals by class:", ""]
    for kind, title in _KINDS:
        refused = found[kind]["refused"].items()
        said = ", ".join(f"{name} {count:,}" for name, count in refused) or "none"
        lines.append(f"- {title}: {said}")
    findings = [item for kind, _ in _KINDS for item in found[kind]["escaped"]]
    if findings:
        lines += ["", "Escaped:", "", *(f"- `{item}`" for item in findings)]
    return "\n".join(lines) + "\n"
