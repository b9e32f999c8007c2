"""The damaged DICOM files: each can be made again, and none hurts the caller."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fhir_adapters.dicom.decode_process import DecodePool
from tests.fhir_adapters.dicom_files import EXPECTED, LOSSLESS
from tests.fuzz.dicom_files import (
    LIMITS,
    bombed,
    children,
    deep,
    example,
    fuzz_dicom,
    real_files,
    resident_mib,
    retagged,
    seeds,
)
from tests.fuzz.outcome import HANG_S


def test_an_example_is_its_seed_and_number() -> None:
    made = [hashlib.sha256(example(3, n)).digest() for n in range(60)]
    assert made == [hashlib.sha256(example(3, n)).digest() for n in range(60)]
    assert len(set(made)) > 50
    assert made != [hashlib.sha256(example(4, n)).digest() for n in range(60)]


def test_most_undamaged_films_are_read() -> None:
    assert len(seeds()) >= len(LOSSLESS) + 30 and len(real_files()) >= 50
    pool = DecodePool(LIMITS)
    try:
        for data in seeds()[: len(LOSSLESS) + 2]:
            image = pool.decode(
                data, expected=EXPECTED, reference="ImagingStudy/s1", origin="folder"
            )
            assert image.pixels.shape == (48, 40)
        (process_id,) = children(pool)
        assert 20 < resident_mib(process_id) < LIMITS.memory_bytes / 2**20
    finally:
        pool.close()
    assert resident_mib(process_id) == 0.0


@pytest.mark.parametrize("way", [bombed, retagged, deep])
def test_a_way_to_damage_a_file_does(way: object) -> None:
    rng = np.random.default_rng(1)
    changed = [way(data, rng) != data for data in seeds()]  # type: ignore[operator]
    assert sum(changed) > len(changed) / 2


def test_damaged_files_end_in_typed_errors_within_their_limits() -> None:
    found = fuzz_dicom(220, seed=20260101, progress=False)
    assert found.escaped == [] and found.holds
    assert found.examples == 220 and 0 < found.read < 220
    assert found.slowest_s < HANG_S
    assert 0 < found.peak_mib < LIMITS.memory_bytes / 2**20
    assert set(name.split()[0] for name in found.refused) == {"ImageUnreadableError"}
