"""What the Celery application accepts, shows and waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import ConfigurationError
from model.jobs.celery_app import TASK, celery_app
from tests.model.job_samples import settings


def test_only_json_is_accepted_and_nothing_is_published_about_tasks(
    tmp_path: Path,
) -> None:
    conf = celery_app(settings(tmp_path)).conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == conf.event_serializer == "json"
    assert conf.result_backend is None
    assert conf.task_ignore_result and not conf.result_extended
    assert not conf.task_send_sent_event and not conf.worker_send_task_events
    assert not conf.worker_enable_remote_control


def test_a_killed_workers_message_is_not_lost_where_the_broker_can_help(
    tmp_path: Path,
) -> None:
    conf = celery_app(settings(tmp_path)).conf
    assert conf.task_acks_late and conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1


def test_the_queue_is_the_configured_one_only(tmp_path: Path) -> None:
    app = celery_app(settings(tmp_path, queue="trivium.cuda"))
    assert [queue.name for queue in app.conf.task_queues] == ["trivium.cuda"]
    assert app.conf.task_default_queue == "trivium.cuda"
    assert not app.conf.task_create_missing_queues
    assert TASK == "trivium.assess"


@pytest.mark.parametrize("publisher", [True, False])
def test_only_the_publisher_gives_up_quickly(tmp_path: Path, publisher: bool) -> None:
    chosen = settings(tmp_path, broker_url="redis://h:1/0", publish_timeout_s=0.15)
    conf = celery_app(chosen, publisher=publisher).conf
    options = conf.broker_transport_options
    assert options["visibility_timeout"] == 3600
    assert options.get("socket_timeout") == (0.15 if publisher else None)
    assert options.get("max_retries") == (0 if publisher else None)


def test_an_amqp_publisher_gives_up_quickly(tmp_path: Path) -> None:
    chosen = settings(tmp_path, broker_url="amqps://h//", publish_timeout_s=0.15)
    conf = celery_app(chosen, publisher=True).conf
    assert conf.broker_transport_options["read_timeout"] == 0.15
    assert conf.broker_connection_timeout == 0.15


@pytest.mark.parametrize("url", ["sqla+sqlite:///x", "memory://", "var/broker", ""])
def test_other_brokers_are_refused_and_not_quoted(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        celery_app(settings(tmp_path, broker_url=url))
    assert not url or url not in str(caught.value)


def test_the_broker_folder_is_private(tmp_path: Path) -> None:
    celery_app(settings(tmp_path))
    folder = tmp_path / "broker"
    for path in (folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
