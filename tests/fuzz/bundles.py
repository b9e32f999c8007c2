"""Bundles that no EHR should send, read as if one had sent them.

Four kinds, drawn by the seed: charts of our own samples with parts replaced, removed or
doubled; the same of real resources where a data folder is there; bytes of such charts
cut, flipped and spliced; and JSON of any shape from hypothesis. Each goes the whole way
from bytes to a record, and the record must add up: each Observation used or skipped,
exactly once, with a reason.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as with_seed
from hypothesis import settings
from tqdm import tqdm

from fhir_adapters.assemble import assemble, observation_account
from fhir_adapters.bundle import walk
from fhir_adapters.errors import AdapterError
from fhir_adapters.fhir_json import parse_json
from fhir_adapters.patient_record import Modality, ModalityStatus
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import resource_type
from tests.fhir_adapters.fhir_samples import CUTOFF, bundle, chest_image, patient
from tests.fuzz.mutate import any_json, mutate, mutate_bytes, sample_charts
from tests.fuzz.outcome import HANG_S, Fuzzed

# One in so many charts keeps a whole PDF: each costs the start of a process.
PDF_EVERY = 1_000
_STRATEGY_SHARE = 10
_BYTES_SHARE = 0.15
_REAL_SHARE = 0.5
_CHART = (4, 14)
_BASE = "https://ehr.example/fhir"


class HangError(Exception):
    """An input took more CPU time than any may."""


class AccountError(Exception):
    """A record whose parts do not add up."""


def fuzz_bundles(
    examples: int,
    seed: int,
    *,
    progress: bool = True,
    real: list[dict[str, Any]] | None = None,
) -> Fuzzed:
    """Read ``examples`` hostile bundles in this process.

    Args:
        examples: How many.
        seed: The same seed draws the same inputs.
        progress: Whether to show a bar.
        real: Real resources to mutate beside our own samples; their subject is the
            patient in context.
    """
    found = Fuzzed()
    strategies = examples // _STRATEGY_SHARE
    with tqdm(total=examples, desc="bundles", disable=not progress) as bar:
        for number in range(examples - strategies):
            name = f"{seed}:{number}"
            chooser = random.Random(name)
            read_one(_bytes(chooser, number, real or []), name, found, chooser)
            bar.update()
        _from_strategies(strategies, seed, found, bar)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found.peak_mib = used.ru_maxrss / 1024
    return found


def read_one(data: bytes, name: str, found: Fuzzed, chooser: random.Random) -> None:
    """Read one input and note what came of it."""
    found.examples += 1
    began = time.perf_counter()
    try:
        with _cpu_limit(HANG_S):
            read_chart(data, chooser)
        found.read += 1
    except AdapterError as error:
        found.refuse(error)
    except Exception as error:  # what the run looks for
        found.escape(name, f"{type(error).__name__}: {error}")
    found.took(time.perf_counter() - began, name)


def read_chart(data: bytes, chooser: random.Random) -> None:
    """Bytes -> record, and the sums over it.

    Raises:
        AdapterError: A typed refusal.
        AccountError: The record does not add up.
    """
    parsed = parse_json(data)
    received = list(walk(parsed, "fhir"))
    observations = sum(resource_type(i.resource) == "Observation" for i in received)
    images = [chest_image()] if chooser.random() < 0.5 else []
    policy = AdapterPolicy(fhir_base=_BASE, pdf_seconds=2.0)
    subject = mutate(patient(), chooser) if chooser.random() < 0.05 else patient()
    record = assemble(subject, received, images, cutoff=CUTOFF, policy=policy)
    account = observation_account(record)
    if account.received != observations:
        raise AccountError(f"{account.received} of {observations} Observations")
    present = record.states[Modality.VALUES].status is ModalityStatus.PRESENT
    if present is not bool(record.values) or len(record.evidence_sha256()) != 64:
        raise AccountError("states or digest")
    for skip in record.skipped:
        if not skip.reason.replace("_", "").isalpha():
            raise AccountError("a skip without a reason code")
    for value in record.history:
        if not value.value.is_finite() or value.measured_at > CUTOFF:
            raise AccountError("a value that must not be there")


def _bytes(chooser: random.Random, number: int, real: list[dict[str, Any]]) -> bytes:
    """One chart as an EHR would send it, had the EHR gone mad."""
    charts = sample_charts(with_pdf=number % PDF_EVERY == 0)
    if real and chooser.random() < _REAL_SHARE:
        charts = [chooser.choice(real) for _ in range(chooser.randint(*_CHART))]
    mutated = [mutate(resource, chooser) for resource in charts]
    whole: Any = bundle(*mutated)
    if chooser.random() < 0.1:
        whole = mutate(whole, chooser)
    data = to_bytes(whole)
    return mutate_bytes(data, chooser) if chooser.random() < _BYTES_SHARE else data


def to_bytes(chart: Any) -> bytes:
    """JSON with decimals as numbers, lone surrogates included."""
    # A number's own digits, which a float would lose.
    made = json.dumps(chart, default=lambda value: f"\x00{value}\x00")
    return made.replace('"\\u0000', "").replace('\\u0000"', "").encode()


def _from_strategies(examples: int, seed: int, found: Fuzzed, bar: tqdm[None]) -> None:
    """The share that hypothesis draws; it may stop early when it runs out of ideas."""
    if examples <= 0:
        return
    goal = found.examples + examples

    @with_seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(any_json())
    def one(made: Any) -> None:
        if found.examples >= goal:
            return
        name = f"{seed}:strategy:{found.examples}"
        chooser = random.Random(name)
        whole = made if chooser.random() < 0.3 else bundle()
        if whole is not made:
            whole["entry"] = made
        read_one(to_bytes(whole), name, found, chooser)
        bar.update()

    one()
    while found.examples < goal:
        name = f"{seed}:{found.examples}"
        chooser = random.Random(name)
        read_one(_bytes(chooser, 1, []), name, found, chooser)
        bar.update()


@contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`HangError` in the block after so much CPU time of this process."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise HangError(f"above {seconds:g} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
