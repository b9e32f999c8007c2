"""How an input goes wrong: parts replaced, removed, doubled; bytes cut and spliced."""

from __future__ import annotations

import base64
import copy
import gzip
import random
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fhir_adapters.bundle import walk
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.resources.elements import resource_type
from tests.fhir_adapters.fhir_samples import (
    attachment,
    blood_pressure,
    concept,
    document,
    endpoint,
    imaging_study,
    observation,
    quantity,
    report,
)
from tests.fhir_adapters.pdf_samples import text_pdf

Json = dict[str, Any]

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 10**400, 2**63, 1.5),
    *(Decimal("1E+999999"), Decimal("1E-999999"), Decimal("-0"), Decimal("1.10")),
    *("", " ", "\ud800", "\x00", "\u202e", "a" * 5000, "<" * 3000, "9" * 400),
    *([], {}, [[]], [{}], [None], {"": None}, {"coding": {}}, {"reference": 7}),
    *("2026-13-45T99:99:99Z", "9999-12-31T23:59:59-14:00", "0000-00-00", "²³"),
    *("2026-03-01T08:00:00+99:99", "2026-02-29", "2026-03-01T24:00:00Z", "2026"),
    *("%%%", "<![CDATA[", "urn:oid:", "#", "//", "Patient/", ["Patient/p1"]),
    *("Patient/p2", "https://evil.example/Patient/p1", "Observation/o1", "#o1"),
    *("entered-in-error", "cancelled", "preliminary", "<", "~", "K/uL", "[degF]"),
    *("text/rtf", "application/xml", "text/html", "text/plain; charset=utf-7"),
    *(base64.b64encode(b"{\\rtf1" + b"{" * 900).decode(), "SGVsbG8="),
    *("http://loinc.org", "8480-6", "2951-2", "de", 1e308, Decimal("0.1") ** 30),
]
_READ = ("Observation", "DiagnosticReport", "DocumentReference", "ImagingStudy")
_REAL_OF_A_KIND = 400
_WORDS = (
    "resourceType id status subject code component entry resource search mode "
    "valueQuantity valueString value unit coding system reference presentedForm data "
    "contentType effectiveDateTime issued dataAbsentReason referenceRange contained "
    "meta series identifier conclusion content attachment relatesTo hasMember"
).split()
_SCALARS = [
    *("Bundle", "Observation", "DiagnosticReport", "DocumentReference", "Patient"),
    *("ImagingStudy", "OperationOutcome", "final", "Patient/p1", "http://loinc.org"),
    *("2951-2", "85354-9", "mmol/L", "2026-03-01T08:00:00Z", "text/html", "match"),
]


@cache
def _samples() -> tuple[Json, ...]:
    text_value = observation(id="o3", valueString="<0.01 ng/mL")
    del text_value["valueQuantity"]
    rtf = attachment(r"{\rtf1\ansi\uc1 Words \u8211- {\v hidden}\'e9\par}", "text/rtf")
    return (
        observation(interpretation=[concept(("x", "H"))]),
        observation(
            "8310-5",
            quantity(Decimal("98.6"), "[degF]", comparator="<"),
            id="o2",
            referenceRange=[
                {"low": {"value": 95}, "high": {"value": 99, "unit": "Cel"}}
            ],
            effectivePeriod={"start": "2026-01-01T00:00:00Z"},
            meta={"versionId": "1", "lastUpdated": "2026-01-01T00:00:00Z"},
        ),
        text_value,
        blood_pressure(id="o4"),
        report(
            conclusion="x",
            imagingStudy=[{"reference": "ImagingStudy/s1", "identifier": {}}],
            identifier=[{"type": concept(("x", "ACSN")), "value": "1"}],
            basedOn=[{"reference": "ServiceRequest/1"}],
            issued="2026-01-01T00:00:00Z",
        ),
        report(id="r2", presentedForm=[attachment("<p>a", "text/html"), rtf]),
        document(
            relatesTo=[
                {"code": "replaces", "target": {"reference": "DocumentReference/x"}}
            ],
            context={"period": {"end": "2026-01-01T00:00:00Z"}, "related": [{}]},
        ),
        imaging_study(
            contained=[endpoint()], modality=[{"code": "DX"}], description="chest"
        ),
        endpoint(extension=[{"url": "x", "valueBoolean": True}]),
    )


@cache
def _pdf_document() -> Json:
    data = base64.b64encode(text_pdf("A text layer.")).decode()
    form = {"contentType": "application/pdf", "data": data}
    return document(id="d9", content=[{"attachment": form}])


def sample_charts(*, with_pdf: bool) -> list[Json]:
    """One chart of our own samples, one resource of each kind that is read."""
    return [*_samples(), *([_pdf_document()] if with_pdf else [])]


def real_resources(folder: Path) -> list[Json]:
    """Real resources below ``folder``, up to 400 of each type, about our patient.

    Taken evenly over each file; the subject becomes the patient in context, because a
    stranger's resource would be refused before anything of it is read.
    """
    kept: dict[str, list[Json]] = {kind: [] for kind in _READ}
    for path in sorted(folder.rglob("*.json.gz")) + sorted(folder.rglob("*.ndjson.gz")):
        for place, resource in enumerate(_of_file(path)):
            group = kept.get(resource_type(resource))
            if group is not None and place % 11 == 0 and len(group) < _REAL_OF_A_KIND:
                group.append({**resource, "subject": {"reference": "Patient/p1"}})
    return [resource for group in kept.values() for resource in group]


def _of_file(path: Path) -> Iterator[Json]:
    data = gzip.decompress(path.read_bytes())
    lines = data.splitlines()[:2_000] if ".ndjson" in path.name else [data]
    for line in lines:
        for received in walk(parse_json(line), "folder"):
            yield received.resource


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path below ``node``."""
    found: list[tuple[Any, ...]] = []
    items = node.items() if isinstance(node, dict) else ()
    items = enumerate(node) if isinstance(node, list) else items
    for key, value in items:
        found.append((*path, key))
        found.extend(places(value, (*path, key)))
    return found


def mutate(resource: Json, chooser: random.Random) -> Json:
    """None to four random replacements, removals, doublings or loops."""
    made: Json = copy.deepcopy(resource)
    for _ in range(chooser.choice((0, 1, 1, 2, 3, 4))):
        paths = places(made)
        if not paths:
            break
        *path, last = chooser.choice(paths)
        node: Any = made
        for key in path:
            node = node[key]
        kind = chooser.random()
        if kind < 0.65:
            node[last] = copy.deepcopy(chooser.choice(HOSTILE))
        elif kind < 0.8:
            del node[last]
        elif kind < 0.9:
            node[last] = [node[last], node[last]]
        elif kind < 0.98:
            node[last] = copy.deepcopy(resource)
        else:
            # Two levels each: most pass the cap, and meet whoever reads the shape.
            node[last] = _nested(chooser.choice((5, 10, 20, 25, 40)))
    return made


def _nested(depth: int) -> Any:
    made: Any = {}
    for _ in range(depth):
        made = [{"a": made}]
    return made


def mutate_bytes(data: bytes, chooser: random.Random) -> bytes:
    """Cut, flip, insert or repeat some bytes."""
    made = bytearray(data)
    for _ in range(chooser.randint(1, 6)):
        if not made:
            break
        place = chooser.randrange(len(made))
        kind = chooser.randrange(5)
        if kind == 0:
            made[place] = chooser.randrange(256)
        elif kind == 1:
            made[place:place] = chooser.choice(_INSERTS)
        elif kind == 2:
            del made[place : place + chooser.randint(1, 40)]
        elif kind == 3:
            made[place:place] = made[place : place + chooser.randint(1, 400)]
        else:
            del made[place:]
    return bytes(made)


_INSERTS = (
    *(b"\xff", b"\xef\xbb\xbf", b"\x00", b'"', b"\\", b"[" * 300, b"{" * 300),
    *(b"NaN", b"Infinity", b"1e999999", b"-", b",", b"9" * 5000, b"\\ud800", b"\xc0"),
)


def any_json() -> st.SearchStrategy[Any]:
    """JSON of any shape, in words that mean something to FHIR."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.sampled_from(_SCALARS)
        | st.decimals(allow_nan=False, allow_infinity=False)
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=6),
        max_leaves=20,
    )
