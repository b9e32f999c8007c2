"""Settings of queue and worker: from the environment, refused early."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import ConfigurationError
from model.settings import DEMO_CHECKPOINT, JobSettings, WorkerSettings

KEY = {"TRIVIUM_PAYLOAD_KEY_FILE": "/run/secrets/payload.key"}


def test_no_process_starts_without_a_payload_key() -> None:
    with pytest.raises(ConfigurationError, match="TRIVIUM_PAYLOAD_KEY_FILE"):
        JobSettings.from_environment({})


def test_defaults_are_the_embedded_installation() -> None:
    settings = JobSettings.from_environment(KEY)
    assert settings.payload_key_file == Path("/run/secrets/payload.key")
    assert settings.jobs_url == "sqlite:///var/jobs.sqlite3"
    assert settings.broker_url == "filesystem://var/broker"
    assert settings.queue == "trivium.cpu"
    assert settings.job_ttl_s == 600


def test_every_job_setting_is_read() -> None:
    settings = JobSettings.from_environment(
        {
            **KEY,
            "TRIVIUM_JOBS_URL": "postgresql://db/jobs",
            "TRIVIUM_BROKER_URL": "redis://broker/0",
            "TRIVIUM_QUEUE": "trivium.site",
            "TRIVIUM_JOB_TTL_S": "60",
            "TRIVIUM_RESULT_TTL_S": "120",
            "TRIVIUM_LEASE_S": "7.5",
            "TRIVIUM_UNCLAIMED_S": "2",
            "TRIVIUM_MAX_ATTEMPTS": "4",
            "TRIVIUM_PUBLISH_TIMEOUT_S": "0.2",
            "TRIVIUM_JOBS_TIMEOUT_S": "0.3",
            "TRIVIUM_MAX_PAYLOAD_BYTES": "1000",
            "TRIVIUM_MAX_FILM_SIDE": "512",
        }
    )
    assert settings == JobSettings(
        payload_key_file=Path("/run/secrets/payload.key"),
        jobs_url="postgresql://db/jobs",
        broker_url="redis://broker/0",
        queue="trivium.site",
        job_ttl_s=60.0,
        result_ttl_s=120.0,
        lease_s=7.5,
        unclaimed_s=2.0,
        max_attempts=4,
        publish_timeout_s=0.2,
        store_timeout_s=0.3,
        max_payload_bytes=1000,
        max_film_side=512,
    )
    assert isinstance(settings.max_attempts, int)


def test_a_cuda_device_names_its_own_queue_and_an_explicit_one_wins() -> None:
    cuda = {**KEY, "TRIVIUM_DEVICE": "cuda"}
    assert JobSettings.from_environment(cuda).queue == "trivium.cuda"
    named = {**cuda, "TRIVIUM_QUEUE": "other"}
    assert JobSettings.from_environment(named).queue == "other"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_a_lease_that_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="TRIVIUM_LEASE_S"):
        JobSettings.from_environment({**KEY, "TRIVIUM_LEASE_S": value})


def test_an_empty_queue_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="TRIVIUM_QUEUE"):
        JobSettings(payload_key_file=Path("key"), queue="")


def test_worker_settings_default_to_the_demo_checkpoint() -> None:
    settings = WorkerSettings.from_environment({})
    assert settings.checkpoint == DEMO_CHECKPOINT
    assert (settings.device, settings.threads, settings.scan_s) == ("auto", 0, 2.0)
    assert settings.max_evidence_days == 30


def test_every_worker_setting_is_read() -> None:
    settings = WorkerSettings.from_environment(
        {
            "TRIVIUM_CHECKPOINT": "/models/small",
            "TRIVIUM_DEVICE": "cpu",
            "TRIVIUM_THREADS": "3",
            "TRIVIUM_SCAN_S": "0.5",
            "TRIVIUM_MAX_EVIDENCE_DAYS": "0",
        }
    )
    assert settings == WorkerSettings(Path("/models/small"), "cpu", 3, 0.5, 0.0)


@pytest.mark.parametrize(
    "name,value",
    [
        ("TRIVIUM_DEVICE", "tpu"),
        ("TRIVIUM_THREADS", "-1"),
        ("TRIVIUM_THREADS", "many"),
        ("TRIVIUM_SCAN_S", "0"),
        ("TRIVIUM_MAX_EVIDENCE_DAYS", "-5"),
    ],
)
def test_a_wrong_worker_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        WorkerSettings.from_environment({name: value})
