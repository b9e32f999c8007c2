"""Mutated resources: a skip or a typed error, never anything else."""

from __future__ import annotations

import copy
import random
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapters.assemble import assemble, observation_account
from fhir_adapters.bundle import walk
from fhir_adapters.errors import AdapterError
from fhir_adapters.patient_record import Modality, ModalityStatus
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import resource_type
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    blood_pressure,
    bundle,
    chest_image,
    concept,
    document,
    endpoint,
    imaging_study,
    observation,
    patient,
    quantity,
    report,
)

SEEDS = [
    observation(interpretation=[concept(("x", "H"))]),
    observation(
        "8310-5",
        quantity(Decimal("98.6"), "[degF]", comparator="<"),
        id="o2",
        referenceRange=[{"low": {"value": 95}, "high": {"value": 99, "unit": "Cel"}}],
        effectivePeriod={"start": "2026-01-01T00:00:00Z"},
        effectiveTiming={"event": ["2026-01-01T00:00:00Z"]},
        meta={"versionId": "1", "lastUpdated": "2026-01-01T00:00:00Z"},
    ),
    {**observation(id="o3", valueString="<0.01 ng/mL"), "valueQuantity": None},
    blood_pressure(id="o4"),
    report(
        conclusion="x",
        imagingStudy=[{"reference": "ImagingStudy/s1", "identifier": {"value": "x"}}],
        identifier=[{"type": concept(("x", "ACSN")), "value": "1"}],
        basedOn=[{"reference": "ServiceRequest/1"}],
        issued="2026-01-01T00:00:00Z",
    ),
    document(
        relatesTo=[
            {"code": "replaces", "target": {"reference": "DocumentReference/x"}}
        ],
        context={
            "period": {"end": "2026-01-01T00:00:00Z"},
            "related": [{"reference": "ImagingStudy/s1", "identifier": {}}],
        },
    ),
    imaging_study(
        contained=[endpoint()],
        modality=[{"code": "DX"}],
        procedureCode=[concept(("x", "36643-5"))],
        description="chest",
    ),
    endpoint(extension=[{"url": "x", "valueBoolean": True}]),
]
HOSTILE = [
    *(None, True, 0, -1, 10**400, 1.5, float("nan"), float("-inf"), Decimal("NaN")),
    *(Decimal("1E+999999"), Decimal("-0"), "", " ", "\ud800", "\x00", "a" * 5000),
    *([], {}, [[]], [{}], [None], {"": None}, {"coding": {}}, {"reference": 7}),
    *("2026-13-45T99:99:99Z", "9999-12-31T23:59:59-14:00", "0000-00-00", "²³"),
    *("%%%", "<![CDATA[", "urn:oid:", "#", "//", "Patient/", ["Patient/p1"]),
]


def places(node, path=()):
    """Every path below ``node``."""
    found = []
    items = node.items() if isinstance(node, dict) else ()
    items = enumerate(node) if isinstance(node, list) else items
    for key, value in items:
        found.append((*path, key))
        found.extend(places(value, (*path, key)))
    return found


def mutate(resource, chooser: random.Random):
    """One to four random replacements, removals or doublings."""
    made = copy.deepcopy(resource)
    for _ in range(chooser.randint(1, 4)):
        paths = places(made)
        if not paths:
            break
        *path, last = chooser.choice(paths)
        node = made
        for key in path:
            node = node[key]
        kind = chooser.random()
        if kind < 0.7:
            node[last] = copy.deepcopy(chooser.choice(HOSTILE))
        elif kind < 0.85:
            del node[last]
        else:
            node[last] = [node[last], node[last]]
    return made


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_mutated_charts_give_a_record_that_adds_up(seed):
    chooser = random.Random(seed)
    mutated = [mutate(resource, chooser) for resource in SEEDS]
    received = list(walk(bundle(*mutated), "fhir"))
    observations = sum(
        resource_type(item.resource) == "Observation" for item in received
    )
    try:
        record = assemble(
            patient(),
            received,
            [chest_image()],
            cutoff=CUTOFF,
            policy=AdapterPolicy(fhir_base="https://ehr.example/fhir"),
        )
    except AdapterError:
        return
    assert observation_account(record).received == observations
    present = record.states[Modality.VALUES].status is ModalityStatus.PRESENT
    assert present is bool(record.values)
    assert len(record.evidence_sha256()) == 64
    for skip in record.skipped:
        assert skip.reason and skip.reason.replace("_", "").isalpha()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_mutated_patients_are_read_or_refused(seed):
    chooser = random.Random(seed)
    seed_patient = patient(name=[{"family": "x"}])
    try:
        record = assemble(mutate(seed_patient, chooser), [], [], cutoff=CUTOFF)
    except AdapterError:
        return
    assert record.patient.patient_id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.decimals(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            "resourceType id status subject code component entry resource search "
            "valueQuantity value unit coding reference".split()
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_walked_and_assembled(made):
    received = list(walk(made, "fhir"))
    received += list(walk({"resourceType": "Bundle", "entry": made}, "fhir"))
    try:
        assemble(patient(), received, [], cutoff=CUTOFF)
    except AdapterError:
        return
