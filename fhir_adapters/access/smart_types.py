"""The nouns of a SMART launch, free of any OAuth library's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fhir_adapters.access.smart_keys import KeyRing

PENDING_SECONDS = 600  # S9: how long a browser may take to come back


@dataclass(frozen=True, slots=True)
class Registration:
    """What one EHR knows of us.

    Attributes:
        issuer: FHIR base URL, exactly as the EHR sends it in ``iss``.
        client_id: Our client id there.
        redirect_uri: The registered callback, compared exactly by the EHR (S12).
        client_secret: For ``client_secret_basic``; None for a public client.
        keys: For a signed assertion, which goes before the secret (S16).
    """

    issuer: str
    client_id: str
    redirect_uri: str
    client_secret: str | None = field(default=None, repr=False)
    keys: KeyRing | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """The part of ``.well-known/smart-configuration`` that we use, all URLs absolute.

    ``token_issuer`` is the ``iss`` that id_tokens must carry.
    """

    issuer: str
    token_issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    capabilities: frozenset[str]
    introspection_endpoint: str = ""
    revocation_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """A launch between redirect and callback; belongs into the browser's session (S9).

    Plain text and numbers, so that a session can hold it: ``dataclasses.asdict``.
    ``created_at`` is in seconds since 1970.
    """

    issuer: str
    scopes: str
    state: str
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What a launch gave: a token and the context it is good for.

    Attributes:
        access_token: Bearer token; shown by no ``repr``.
        patient: FHIR id of the patient in context, None without patient scopes.
        encounter: FHIR id of the encounter in context.
        fhir_user: Absolute URL of the user's resource.
        scope: Granted scopes.
        expires_at: Seconds since 1970.
        id_token_claims: Verified claims, empty without openid.
        need_patient_banner: We must show who the patient is (S18).
        missing_scopes: Requested and not granted (S17).
        app_context: What the CDS Hooks link carried, None if nothing.
        issuer: Canonical FHIR base that the tokens are for.
        refresh_token: For a new access token; shown by no ``repr``.
        style_url: Where the EHR describes its look (S18).
    """

    access_token: str = field(repr=False)
    patient: str | None = field(repr=False)
    encounter: str | None = field(repr=False)
    fhir_user: str | None = field(repr=False)
    scope: str
    expires_at: float
    id_token_claims: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )
    need_patient_banner: bool = True
    missing_scopes: tuple[str, ...] = ()
    app_context: str | None = field(default=None, repr=False)
    issuer: str = ""
    refresh_token: str | None = field(default=None, repr=False)
    style_url: str | None = None
