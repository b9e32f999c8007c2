"""FHIR R4 REST at /fhir: read and search, nothing else.

Rules:

- every route but ``metadata`` needs a bearer token (401 without);
- scopes and the patient compartment are enforced on reads, on searches and again on
  every page: a token for one patient never shows another one (403);
- errors are OperationOutcomes; no text of the request is echoed beyond names of
  parameters and types.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response, request
from itsdangerous import BadSignature

from deploy.sandbox.access_tokens import Grant, bearer_grant, sealer
from deploy.sandbox.capability import capability_statement
from deploy.sandbox.ehr import Ehr
from deploy.sandbox.errors import RequestError
from deploy.sandbox.fhir_search import (
    SEARCH_PARAMETERS,
    Parameters,
    SearchResult,
    in_compartment,
    parameters_of,
    search,
)
from deploy.sandbox.store import Resource, patient_of

FHIR_JSON = "application/fhir+json"
READABLE = frozenset(SEARCH_PARAMETERS) | {"Binary"}
_ACCEPTED = ("*/*", "application/*", "application/fhir+json", "application/json")


def fhir_json(body: dict[str, Any], status: int = 200, **headers: str) -> Response:
    """A FHIR JSON response."""
    response = Response(orjson.dumps(body), status, content_type=FHIR_JSON)
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(headers)
    return response


def operation_outcome(code: str, text: str, severity: str = "error") -> dict[str, Any]:
    """An OperationOutcome with one issue."""
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def check_compartment(grant: Grant, resource: Resource) -> None:
    """Refuse a resource of any other patient than the token's.

    Raises:
        RequestError: 403.
    """
    kind = resource["resourceType"]
    if in_compartment(kind) and patient_of(resource) != grant.patient:
        raise RequestError(403, "forbidden", "outside the patient of this token")


def search_bundle(
    ehr: Ehr,
    kind: str,
    parameters: Parameters,
    patient: str,
    *,
    strict: bool = False,
    offset: int = 0,
) -> dict[str, Any]:
    """One page of a search within one patient's compartment, as a searchset."""
    found = search(ehr.store, kind, parameters, patient=patient, strict=strict)
    page = found.matches[offset : offset + found.count]
    entries = [
        {
            "fullUrl": f"{ehr.fhir_base}/{kind}/{item['id']}",
            "resource": item,
            "search": {"mode": "match"},
        }
        for item in page
    ]
    entries += [_notice(name) for name in found.ignored]
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found.matches),
        "link": _links(ehr, kind, found, patient, offset),
    }
    if entries:
        bundle["entry"] = entries
    return bundle


def fhir_blueprint(ehr: Ehr) -> Blueprint:
    """The routes below /fhir."""
    routes = Blueprint("fhir", __name__, url_prefix="/fhir")

    @routes.get("/metadata")
    def metadata() -> Response:
        return fhir_json(capability_statement(ehr))

    @routes.get("/<kind>/<name>")
    def read(kind: str, name: str) -> Response:
        grant = _entry(ehr, kind, "r")
        resource = ehr.store.get(kind, name)
        if resource is None:
            raise RequestError(404, "not-found", f"no such {kind}")
        check_compartment(grant, resource)
        etag = f'W/"{resource["meta"]["versionId"]}"'
        if request.headers.get("If-None-Match") == etag:
            return Response(status=304, headers={"ETag": etag})
        return fhir_json(resource, ETag=etag)

    @routes.get("/<kind>")
    def search_get(kind: str) -> Response:
        grant = _entry(ehr, kind, "s")
        page = request.args.get("_page")
        if page is not None:
            return fhir_json(_page(ehr, kind, page, grant))
        query = parameters_of(request.query_string.decode("utf-8", "replace"))
        return fhir_json(_search(ehr, kind, query, grant))

    @routes.post("/<kind>/_search")
    def search_post(kind: str) -> Response:
        grant = _entry(ehr, kind, "s")
        if request.mimetype != "application/x-www-form-urlencoded":
            raise RequestError(415, "not-supported", "_search takes a form")
        query = parameters_of(request.query_string.decode("utf-8", "replace"))
        query += list(request.form.items(multi=True))
        return fhir_json(_search(ehr, kind, query, grant))

    return routes


def _entry(ehr: Ehr, kind: str, verb: str) -> Grant:
    """Token, type, format and scope of a request, in that order."""
    grant = bearer_grant(ehr.tokens, request.headers.get("Authorization"))
    if kind not in READABLE:
        raise RequestError(404, "not-supported", "type not served here")
    accepted = request.headers.get("Accept", "*/*").split(",")
    if not any(a.split(";")[0].strip() in _ACCEPTED for a in accepted):
        raise RequestError(406, "not-supported", "only JSON is served")
    if not grant.allows(kind, verb):
        raise RequestError(403, "forbidden", f"scope does not cover {kind}.{verb}")
    return grant


def _search(ehr: Ehr, kind: str, query: Parameters, grant: Grant) -> dict[str, Any]:
    """A search by a bound token; naming another patient is refused, not emptied."""
    for name, value in query:
        plain = name.partition(":")[0]
        about = plain in ("patient", "subject") and in_compartment(kind)
        if about or (kind == "Patient" and plain == "_id"):
            ids = {item.removeprefix("Patient/") for item in value.split(",")}
            if ids != {grant.patient}:
                raise RequestError(403, "forbidden", "another patient than the token's")
    strict = "handling=strict" in request.headers.get("Prefer", "").replace(" ", "")
    return search_bundle(ehr, kind, query, grant.patient, strict=strict)


def _page(ehr: Ehr, kind: str, token: str, grant: Grant) -> dict[str, Any]:
    try:
        held = sealer(ehr.keys.token_secret, "page").loads(token)
    except BadSignature as error:
        raise RequestError(400, "invalid", "not a page of this server") from error
    if held["k"] != kind or held["p"] != grant.patient:
        raise RequestError(403, "forbidden", "a page of another search")
    query = [(name, value) for name, value in held["q"]]
    return search_bundle(ehr, kind, query, grant.patient, offset=held["o"])


def _notice(name: str) -> dict[str, Any]:
    outcome = operation_outcome("not-supported", f"ignored parameter {name}", "warning")
    return {"resource": outcome, "search": {"mode": "outcome"}}


def _links(
    ehr: Ehr, kind: str, found: SearchResult, patient: str, offset: int
) -> list[dict[str, str]]:
    query = f"?{urlencode(found.used)}" if found.used else ""
    links = [{"relation": "self", "url": f"{ehr.fhir_base}/{kind}{query}"}]
    following = offset + found.count
    if found.count and following < len(found.matches):
        held = {"k": kind, "p": patient, "q": found.used, "o": following}
        token = str(sealer(ehr.keys.token_secret, "page").dumps(held))
        url = f"{ehr.fhir_base}/{kind}?{urlencode({'_page': token})}"
        links.append({"relation": "next", "url": url})
    return links
