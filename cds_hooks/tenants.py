"""The EHRs that may call, each with the servers that belong to it.

Everything that could make the service open a connection is listed here, per tenant, by
the operator: key set URLs (J6), FHIR servers (F5), DICOMweb servers, the SMART issuer.
Attack: a token or a request body that names the attacker's server (threat TM-I4).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cds_hooks.errors import SettingsError

CLIENT_AUTH = ("none", "private_key_jwt")


@dataclass(frozen=True, slots=True)
class Issuer:
    """One signer of tokens; its key set comes from ``jku`` or is agreed as ``jwks``."""

    iss: str
    jku: str = ""
    jwks: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SmartClient:
    """How this EHR knows our SMART app.

    ``client_auth`` is "none" for a public client or "private_key_jwt" for one that
    signs with the keys of TRIVIUM_SMART_KEYS_FILE (S16).
    """

    issuer: str
    client_id: str
    scopes: str
    client_auth: str = "none"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One EHR.

    ``private_hosts`` maps a host name to the networks it may resolve to, for servers on
    a hospital's own network; ``loopback`` allows http to this machine, for a sandbox;
    ``post_search`` searches by POST, for a server that offers it: identifiers then stay
    out of URLs and of the access logs on the way.
    """

    id: str
    name: str
    issuers: tuple[Issuer, ...]
    fhir_servers: tuple[str, ...] = ()
    dicomweb: tuple[str, ...] = ()
    loopback: bool = False
    private_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    frame_ancestors: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    patient_identifier_systems: tuple[str, ...] = ()
    smart: SmartClient | None = None
    post_search: bool = False

    def origins(self) -> frozenset[str]:
        """Every origin that the service may connect to for this tenant."""
        urls = [*self.fhir_servers, *self.dicomweb]
        urls += [issuer.jku for issuer in self.issuers if issuer.jku]
        if self.smart:
            urls.append(self.smart.issuer)
        return frozenset(origin_of(url) for url in urls)


def origin_of(url: str) -> str:
    """Scheme, host and port of ``url``, in lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def is_loopback(host: str) -> bool:
    """True for this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def https_or_loopback(url: str) -> bool:
    """True for https, and for http to this machine; no user, query or fragment (R3)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def parse_tenants(document: object) -> tuple[Tenant, ...]:
    """Build the tenants of a parsed file.

    Raises:
        SettingsError: a field is missing, of the wrong type, or unsafe.
    """
    if not isinstance(document, dict) or not isinstance(document.get("tenants"), list):
        raise SettingsError('The tenants file needs a list named "tenants"')
    tenants = tuple(_tenant(entry) for entry in document["tenants"])
    ids = [tenant.id for tenant in tenants]
    if len(set(ids)) != len(ids):
        raise SettingsError("Two tenants have the same id")
    return tenants


def _tenant(entry: object) -> Tenant:
    if not isinstance(entry, dict):
        raise SettingsError("A tenant must be an object")
    tenant_id = _text(entry, "id")
    loopback = entry.get("loopback", False)
    if not isinstance(loopback, bool):
        raise SettingsError(f'Tenant {tenant_id}: "loopback" must be true or false')
    post_search = entry.get("post_search", False)
    if not isinstance(post_search, bool):
        raise SettingsError(f'Tenant {tenant_id}: "post_search" must be true or false')
    issuers = entry.get("issuers")
    if not isinstance(issuers, list) or not issuers:
        raise SettingsError(f"Tenant {tenant_id}: no issuer")
    hosts = entry.get("private_hosts", {})
    if not isinstance(hosts, dict):
        raise SettingsError(f'Tenant {tenant_id}: "private_hosts" must be an object')
    tenant = Tenant(
        id=tenant_id,
        name=_text(entry, "name"),
        issuers=tuple(_issuer(issuer) for issuer in issuers),
        fhir_servers=tuple(url.rstrip("/") for url in _texts(entry, "fhir_servers")),
        dicomweb=tuple(url.rstrip("/") for url in _texts(entry, "dicomweb")),
        loopback=loopback,
        private_hosts={host: _texts(hosts, host) for host in hosts},
        frame_ancestors=_texts(entry, "frame_ancestors"),
        cors_origins=_texts(entry, "cors_origins"),
        patient_identifier_systems=_texts(entry, "patient_identifier_systems"),
        smart=_smart(entry.get("smart")),
        post_search=post_search,
    )
    _refuse_unsafe(tenant)
    return tenant


def _refuse_unsafe(tenant: Tenant) -> None:
    """Refuse plain http, unless it is this machine and the tenant says so (R3)."""
    for url in (*tenant.origins(), *tenant.frame_ancestors, *tenant.cors_origins):
        plain = urlsplit(url).scheme != "https"
        if not https_or_loopback(url) or (plain and not tenant.loopback):
            raise SettingsError(f"Tenant {tenant.id}: a URL is not https")


def _issuer(entry: object) -> Issuer:
    if not isinstance(entry, dict):
        raise SettingsError("An issuer must be an object")
    jku, jwks = entry.get("jku", ""), entry.get("jwks")
    if not isinstance(jku, str) or not isinstance(jwks, dict | None):
        raise SettingsError('"jku" must be a text and "jwks" a key set')
    if bool(jku) == bool(jwks):
        raise SettingsError('An issuer needs either "jku" or "jwks"')
    return Issuer(iss=_text(entry, "iss"), jku=jku, jwks=jwks)


def _smart(entry: object) -> SmartClient | None:
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise SettingsError('"smart" must be an object')
    client_auth = entry.get("client_auth", "none")
    if client_auth not in CLIENT_AUTH:
        raise SettingsError('"client_auth" must be "none" or "private_key_jwt"')
    return SmartClient(
        issuer=_text(entry, "issuer").rstrip("/"),
        client_id=_text(entry, "client_id"),
        scopes=_text(entry, "scopes"),
        client_auth=client_auth,
    )


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise SettingsError(f'Tenants file: "{name}" must be a text')
    return value


def _texts(entry: dict[str, Any], name: str) -> tuple[str, ...]:
    values = entry.get(name, [])
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise SettingsError(f'Tenants file: "{name}" must be a list of texts')
    return tuple(values)
