"""Synthetic patients for the sandbox, drawn from SynthTriModal.

The first patient has everything; the second no film, the third no note, the fourth no
values, and so on in turn, because a chart with a hole in it is the normal case. Names
are made up and every resource carries the tag HTEST ("test health data"). All dates of
a case are shifted together so that its film is a few hours old.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from tqdm import tqdm

from deploy.sandbox.ehr import ENDPOINT_ID
from deploy.sandbox.store import Resource, Store
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_fhir
from model.synthetic.generate import generate
from model.synthetic.latents import Split

TAG = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
_GIVEN = {
    "female": ("Iris", "Maren", "Odile", "Tamsin", "Wilma", "Zofia", "Nerys", "Yara"),
    "male": ("Anselm", "Bram", "Corin", "Edvard", "Jorah", "Leopold", "Quill", "Tobin"),
}
_FAMILY = (
    "Ashgrove",
    "Brightwater",
    "Copperfold",
    "Dunmere",
    "Elmsward",
    "Fernhollow",
    "Glasswick",
    "Harrowbeck",
    "Larkrise",
    "Moorwen",
    "Silverfen",
)
_HOLES = (None, "ImagingStudy", "DocumentReference", "Observation", None, None)


def add_synthetic(
    store: Store,
    n: int,
    seed: int,
    now: datetime,
    *,
    image_size: int = 192,
    quiet: bool = False,
) -> list[str]:
    """Add ``n`` synthetic patients; returns their ids.

    Args:
        now: newest film is two hours before this moment (time-zone aware).
        image_size: side of the films in pixels, 32 to 224.
    """
    cases = generate(n, seed, image_size=image_size, split=Split.DEMO)
    names = []
    for index, case in zip(count(), tqdm(cases, total=n, unit="case", disable=quiet)):
        film_at = now.replace(second=0, microsecond=0) - timedelta(
            hours=2, minutes=47 * index
        )
        name = f"synthetic-{seed}-{index + 1}"
        hole = _HOLES[index % len(_HOLES)]
        _put_case(store, shift(case, film_at), name, hole, (seed * 7 + index))
        names.append(name)
    return names


def shift(case: SynthCase, film_at: datetime) -> SynthCase:
    """The same case with every date moved so that the film is taken at ``film_at``."""
    by = film_at - case.film_at
    return replace(
        case,
        film_at=film_at,
        note_at=case.note_at + by,
        cutoff=case.cutoff + by,
        birth_date=case.birth_date + timedelta(days=by.days),
        values=tuple(replace(v, measured_at=v.measured_at + by) for v in case.values),
    )


def _put_case(
    store: Store, case: SynthCase, name: str, hole: str | None, pick: int
) -> None:
    emitted = to_fhir(case, patient_id=name)
    for resource in emitted.resources:
        kind = resource["resourceType"]
        if kind in ("Endpoint", hole):
            continue
        store.put(_flagged(resource, case, pick))
    if hole != "ImagingStudy":
        for instance in emitted.instances:
            store.put_instance(instance)


def _flagged(resource: Resource, case: SynthCase, pick: int) -> Resource:
    """The resource with the test tag, a name or this sandbox's own Endpoint."""
    changed = {**resource, "meta": {"tag": [TAG]}}
    if resource["resourceType"] == "ImagingStudy":
        changed["endpoint"] = [{"reference": f"Endpoint/{ENDPOINT_ID}"}]
    if resource["resourceType"] == "Patient":
        given = _GIVEN[case.sex][pick % len(_GIVEN[case.sex])]
        family = _FAMILY[pick % len(_FAMILY)]
        changed["name"] = [{"use": "official", "family": family, "given": [given]}]
    return changed
