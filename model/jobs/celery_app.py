"""The Celery application that web and worker share; knows no model and loads no torch.

Rules that this module enforces (threat TM-I3, patient data in queues; PR-35):

1. A message holds one job id. Its representation in headers and logs is fixed text.
2. Only JSON is accepted: a pickled message would run code.
3. There is no result backend: the job store holds the result, sealed.
4. Messages are acknowledged after the work and prefetched one at a time, so that a
   killed worker's message is delivered again where the broker can do that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Exchange, Queue

from model.errors import ConfigurationError
from model.jobs.folder_broker import Transport, folder_options
from model.settings import JobSettings

TASK = "trivium.assess"
POLLING_INTERVAL_S = 0.01
# Longer than any job; the lease in the job store acts much earlier.
VISIBILITY_TIMEOUT_S = 3600


def celery_app(settings: JobSettings, *, publisher: bool = False) -> Celery:
    """Build the application; with ``publisher`` its connections give up quickly.

    Short socket timeouts suit a hook that has 450 ms; a worker that blocks on its
    broker connection must not have them.

    Raises:
        ConfigurationError: a broker URL of another kind.
    """
    app = Celery("trivium", set_as_current=not publisher)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_pool_limit=4,
        enable_utc=True,
        event_serializer="json",
        result_backend=None,
        result_extended=False,
        result_serializer="json",
        task_acks_late=True,
        task_create_missing_queues=False,
        task_default_queue=settings.queue,
        task_ignore_result=True,
        # The default exchange needs no declaration and no routing table.
        task_queues=[_queue(settings.queue)],
        task_reject_on_worker_lost=True,
        task_send_sent_event=False,
        task_serializer="json",
        task_store_errors_even_if_ignored=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        **_broker(settings, publisher),
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]


def _broker(settings: JobSettings, publisher: bool) -> dict[str, Any]:
    url = settings.broker_url
    scheme = urlsplit(url).scheme
    if scheme == "filesystem":
        folder = Path(url.removeprefix("filesystem://")).expanduser().absolute()
        return {
            "broker_url": "filesystem://",
            "broker_transport": f"{Transport.__module__}:{Transport.__name__}",
            "broker_transport_options": folder_options(folder, POLLING_INTERVAL_S),
        }
    if scheme not in {"redis", "rediss", "amqp", "amqps"}:
        raise ConfigurationError("TRIVIUM_BROKER_URL: filesystem, redis or amqp only")
    options: dict[str, Any] = {}
    if scheme.startswith("redis"):
        options["visibility_timeout"] = VISIBILITY_TIMEOUT_S
    broker: dict[str, Any] = {"broker_url": url, "broker_transport_options": options}
    if publisher:
        seconds = settings.publish_timeout_s
        options |= {"max_retries": 0, "interval_start": 0}
        if scheme.startswith("redis"):
            options |= {"socket_connect_timeout": seconds, "socket_timeout": seconds}
        else:
            options |= {"read_timeout": seconds, "write_timeout": seconds}
        broker["broker_connection_timeout"] = seconds
        broker["broker_connection_max_retries"] = 0
    return broker
