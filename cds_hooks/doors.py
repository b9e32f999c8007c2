"""One guarded way out for each tenant, made when it is first needed.

A tenant's door opens to that tenant's servers only: one EHR's request can never make us
talk to another EHR's network (threat TM-I4).
"""

from __future__ import annotations

import ipaddress
import threading

from cds_hooks.errors import SettingsError
from cds_hooks.tenants import Tenant
from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.outbound_policy import OutboundPolicy
from fhir_adapters.errors import OutboundRefusedError

# An uncompressed radiograph of 16 bits and 20 million pixels, with room to spare.
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def door_policy(tenant: Tenant, max_seconds: float) -> OutboundPolicy:
    """Where the tenant's door may go.

    Raises:
        SettingsError: an origin or a network of the tenants file cannot be used.
    """
    try:
        return OutboundPolicy(
            allowed_origins=tenant.origins(),
            loopback=tenant.loopback,
            private_hosts={
                host: tuple(ipaddress.ip_network(text) for text in networks)
                for host, networks in tenant.private_hosts.items()
            },
            max_bytes=MAX_ANSWER_BYTES,
            max_seconds=max_seconds,
        )
    except (OutboundRefusedError, ValueError) as error:
        raise SettingsError(f"Tenant {tenant.id}: a server cannot be used") from error


class TenantDoors:
    """The doors of all tenants; every policy is checked at the start.

    Args:
        tenants: The EHRs that may call.
        max_seconds: Longest single exchange.
    """

    def __init__(self, tenants: tuple[Tenant, ...], max_seconds: float) -> None:
        self._policies = {t.id: door_policy(t, max_seconds) for t in tenants}
        self._doors: dict[str, OutboundDoor] = {}
        self._lock = threading.Lock()

    def door_for(self, tenant: Tenant) -> OutboundDoor:
        """The door of ``tenant``; the same object each time."""
        with self._lock:
            if tenant.id not in self._doors:
                self._doors[tenant.id] = OutboundDoor(self._policies[tenant.id])
            return self._doors[tenant.id]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for door in self._doors.values():
                door.close()
            self._doors.clear()
