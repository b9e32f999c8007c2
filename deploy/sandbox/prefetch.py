"""Fills the prefetch templates of a CDS service for one patient.

CDS Hooks 2.0, ``#prefetch-template``: tokens are replaced by context values; what
cannot be filled is left out; a search that found nothing is an empty Bundle, or null
when the EHR is told to behave like those that send null.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from deploy.sandbox.access_tokens import Grant
from deploy.sandbox.ehr import Ehr
from deploy.sandbox.errors import RequestError
from deploy.sandbox.fhir_api import check_compartment, search_bundle
from deploy.sandbox.fhir_search import parameters_of

_TOKEN = re.compile(r"\{\{\s*([A-Za-z.]+)\s*\}\}")
_READ = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_SEARCH = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")


class PrefetchMode(StrEnum):
    """How this EHR behaves about prefetch; services have to bear each of them."""

    FILL = "fill"  # what can be filled is sent, the rest left out
    NULL = "null"  # as FILL, but what was not found is sent as null
    OMIT = "omit"  # no prefetch at all: the service has to fetch


def fill_prefetch(
    ehr: Ehr,
    templates: dict[str, str],
    context: dict[str, Any],
    mode: PrefetchMode = PrefetchMode.FILL,
) -> dict[str, Any] | None:
    """Prefetch values by key; None when the key ``prefetch`` is not to be sent."""
    if mode is PrefetchMode.OMIT or not templates:
        return None
    filled: dict[str, Any] = {}
    for key, template in templates.items():
        query = _replace_tokens(template, context)
        if query is None:
            continue
        try:
            value = _run(ehr, query, context["patientId"])
        except RequestError:
            continue  # not satisfied: the key is left out and the service fetches
        empty = value is None or value.get("total") == 0
        if empty and mode is PrefetchMode.NULL:
            filled[key] = None
        elif value is not None:
            filled[key] = value
    return filled


def _replace_tokens(template: str, context: dict[str, Any]) -> str | None:
    """The template with its tokens replaced, None when one has no value."""
    values = {f"context.{name}": value for name, value in context.items()}
    user_kind, _, user_id = str(context.get("userId", "")).partition("/")
    values[f"user{user_kind}Id"] = user_id
    names = _TOKEN.findall(template)
    if any(not isinstance(values.get(name), str) for name in names):
        return None
    return _TOKEN.sub(lambda match: values[match.group(1)], template)


def _run(ehr: Ehr, query: str, patient: str) -> dict[str, Any] | None:
    """Result of one filled template: a resource, a Bundle, or None (not found).

    Raises:
        RequestError: a query this EHR does not run, or another patient's resource.
    """
    read = _READ.fullmatch(query)
    if read:
        resource = ehr.store.get(*read.groups())
        if resource is not None:
            check_compartment(Grant("", patient, "", 0, ""), resource)
        return resource
    match = _SEARCH.fullmatch(query)
    if not match:
        raise RequestError(400, "not-supported", "neither a read nor a search")
    kind, parameters = match.groups()
    # strict: a parameter we cannot honour would widen what is sent
    return search_bundle(ehr, kind, parameters_of(parameters), patient, strict=True)
