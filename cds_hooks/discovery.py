"""GET /cds-services: what is offered, as fixed bytes with an ETag.

D1 always an object with a list; D2 the fields of the specification; D4 nothing null or
empty. The document cannot change while the process runs, so it is built once and no
slow hook call can stand before it (L11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from cds_hooks.services import Service
from model.jobs.prediction import ModelIdentity

EXTENSION = "dev.trivium.service"


@dataclass(frozen=True, slots=True)
class Discovery:
    """The response body and its strong validator."""

    body: bytes
    etag: str


def describe(service: Service, model: ModelIdentity, public_url: str) -> dict[str, Any]:
    """One service as discovery lists it."""
    return {
        "hook": service.hook,
        "id": service.id,
        "title": service.title,
        "description": service.description,
        "usageRequirements": service.usage_requirements,
        "prefetch": {template.key: template.query for template in service.prefetch},
        "extension": {
            EXTENSION: {
                "model": {
                    "name": model.name,
                    "version": model.version,
                    "sha256": model.sha256,
                },
                "modelCard": f"{public_url}/model-card",
                "regulatoryStatus": "investigational; not cleared",
            }
        },
    }


def build(
    services: Iterable[Service], model: ModelIdentity, public_url: str
) -> Discovery:
    """The discovery document of ``services``."""
    body = orjson.dumps(
        {"services": [describe(service, model, public_url) for service in services]}
    )
    return Discovery(body=body, etag=hashlib.sha256(body).hexdigest()[:32])
