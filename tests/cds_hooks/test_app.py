"""Routes beside the hook, headers on every answer, and a second life after close."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cds_hooks.app import close
from tests.cds_hooks.service import Service


def test_health_and_readiness(shared: Service) -> None:
    assert shared.client.get("/health").get_json() == {"status": "alive"}
    assert shared.client.get("/ready").get_json() == {"status": "ready"}


def test_readiness_fails_with_the_job_store(service: Service) -> None:
    service.parts.queue.close()
    jobs = service.folder / "jobs.db"
    for path in (jobs, *service.folder.glob("jobs.db-*")):
        path.unlink()
    jobs.mkdir()
    response = service.client.get("/ready")
    assert response.status_code == 503
    assert response.get_json()["resourceType"] == "OperationOutcome"


def test_the_model_card_is_shown_as_text(shared: Service) -> None:
    response = shared.client.get("/model-card")
    assert response.mimetype == "text/html"
    assert "# Model &lt;card&gt;" in response.get_data(as_text=True)


@pytest.mark.ssrf("X29", "X34")
@pytest.mark.parametrize("path", ["/cds-services", "/health", "/nowhere"])
def test_every_answer_has_the_security_headers(shared: Service, path: str) -> None:
    headers = shared.client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Strict-Transport-Security" not in headers


def test_https_is_pinned_where_the_public_url_is_https(
    start: Callable[..., Service],
) -> None:
    service = start(public_url="https://cds.example")
    headers = service.client.get("/health").headers
    assert headers["Strict-Transport-Security"]


def test_unknown_paths_and_methods_get_an_operation_outcome(shared: Service) -> None:
    missing = shared.client.get("/nowhere")
    assert missing.status_code == 404
    assert missing.get_json()["resourceType"] == "OperationOutcome"
    wrong = shared.client.get("/cds-services/trivium-chest")
    assert wrong.status_code == 405
    assert "POST" in wrong.headers["Allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/cds-services",
        "/cds-services/trivium-chest",
        "/cds-services/trivium-chest/feedback",
    ],
)
def test_preflights_of_listed_origins_are_answered_without_a_token(
    shared: Service, path: str
) -> None:
    response = shared.client.options(path, headers={"Origin": shared.ehr.base})
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == shared.ehr.base
    assert "authorization" in response.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "*", ""])
def test_other_origins_get_nothing(shared: Service, origin: str) -> None:
    response = shared.client.options("/cds-services", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in response.headers
    listed = shared.client.get("/health", headers={"Origin": shared.ehr.base})
    assert "Access-Control-Allow-Origin" not in listed.headers


def test_closing_twice_is_harmless(service: Service) -> None:
    close(service.app)
    close(service.app)
