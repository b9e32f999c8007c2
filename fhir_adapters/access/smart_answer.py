"""Read a token endpoint's answer: which token, for whom, for how long.

Checklist S17, S18 and S21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import urljoin

from fhir_adapters.access.smart_scopes import missing_scopes, parse_scope
from fhir_adapters.access.smart_types import TokenSet
from fhir_adapters.errors import SmartError

_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_USER = re.compile(
    r"(?:Practitioner|PractitionerRole|Patient|RelatedPerson|Person)"
    r"/[A-Za-z0-9.-]{1,64}"
)
_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")
_DEFAULT_SECONDS = 300
_MAX_SECONDS = 24 * 3600


def token_fields(answer: Mapping[str, Any], requested: str, now: float) -> TokenSet:
    """The answer without its identity part.

    Args:
        answer: The token endpoint's JSON.
        requested: The scopes asked for.
        now: Seconds since 1970.

    Raises:
        SmartError: "token_type", "token_malformed" or "patient_missing".
    """
    if (optional_text(answer, "token_type") or "").lower() != "bearer":
        raise SmartError("token_type")
    token = optional_text(answer, "access_token") or ""
    if not _BEARER.fullmatch(token):
        # It will stand in a header; a line break in it would be a second header.
        raise SmartError("token_malformed")
    # RFC 6749 section 5.1: no scope in the answer means what was asked for.
    scope = optional_text(answer, "scope") or requested
    patient = _id(answer, "patient")
    needs_patient = any(_is_patient_scope(text) for text in scope.split())
    if needs_patient and patient is None:
        raise SmartError("patient_missing")
    return TokenSet(
        access_token=token,
        patient=patient,
        encounter=_id(answer, "encounter"),
        fhir_user=None,
        scope=scope,
        expires_at=now + _lifetime(answer.get("expires_in")),
        need_patient_banner=answer.get("need_patient_banner") is not False,
        missing_scopes=missing_scopes(scope, requested),
        app_context=optional_text(answer, "appContext"),
        refresh_token=_refresh_token(answer),
        style_url=optional_text(answer, "smart_style_url"),
    )


def with_identity(
    fields: TokenSet, user: str | None, claims: Mapping[str, Any]
) -> TokenSet:
    """The token set of a verified user."""
    return replace(
        fields, fhir_user=user, id_token_claims=MappingProxyType(dict(claims))
    )


def fhir_user_of(claims: Mapping[str, Any], issuer: str) -> str | None:
    """S21: absolute on the issuer's base, or relative to it; None when not claimed.

    Raises:
        SmartError: "fhir_user_malformed": elsewhere, or no person.
    """
    claimed = optional_text(claims, "fhirUser")
    if claimed is None:
        return None
    base = f"{issuer}/"
    absolute = urljoin(base, claimed)
    if not absolute.startswith(base) or not _USER.fullmatch(absolute[len(base) :]):
        raise SmartError("fhir_user_malformed")
    return absolute


def optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    """A string member that is not empty, else None."""
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def _is_patient_scope(text: str) -> bool:
    scope = parse_scope(text)
    return scope is not None and scope.level == "patient"


def _refresh_token(answer: Mapping[str, Any]) -> str | None:
    """None when there is none to be had; it is sent in a form, never in a header."""
    token = optional_text(answer, "refresh_token")
    if token is not None and len(token) > 8192:
        raise SmartError("token_malformed", "refresh_token")
    return token


def _id(answer: Mapping[str, Any], name: str) -> str | None:
    """A FHIR id, None when absent; anything else would end up in a URL."""
    value = answer.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _FHIR_ID.fullmatch(value):
        raise SmartError("token_malformed", name)
    return value


def _lifetime(value: object) -> float:
    """Seconds that a token may be used: as stated, a short time when not stated."""
    if value is None:
        return float(_DEFAULT_SECONDS)
    stated = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(stated, bool) or not isinstance(stated, int | Decimal) or stated <= 0:
        raise SmartError("token_malformed", "expires_in")
    return float(min(stated, _MAX_SECONDS))
