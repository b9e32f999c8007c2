"""A FHIR and DICOMweb server that does what a hostile or broken one would do.

Each attack is a path below ``/fhir`` or ``/dicom-web``; the server keeps no state that
grows and sends what it sends as fast as the client takes it.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.fhir_adapters.http_server import Handler

FHIR_JSON = "application/fhir+json"
BOMB_BYTES = 200 * 1024 * 1024
STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.1", "1.2.3.1.1"


def bundle(*resources: dict[str, Any], link: str = "") -> dict[str, Any]:
    """A searchset."""
    entries = [{"resource": r, "search": {"mode": "match"}} for r in resources]
    made: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": entries,
    }
    if link:
        made["link"] = [{"relation": "next", "url": link}]
    return made


def observation(number: int, patient: str = "p1") -> dict[str, Any]:
    """A heart rate."""
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "effectiveDateTime": "2026-01-10T08:00:00Z",
        "valueQuantity": {
            "value": 80,
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
    }


def patient(number: str = "p1") -> dict[str, Any]:
    """A patient."""
    return {"resourceType": "Patient", "id": number, "birthDate": "1960-01-01"}


def send(handler: Handler, value: Any) -> None:
    """A plain JSON answer."""
    handler.reply(json.dumps(value).encode(), content_type=FHIR_JSON)


def drip(handler: Handler) -> None:
    """One byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.send_header("Content-Type", FHIR_JSON)
    handler.end_headers()
    for _ in range(4000):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def head_drip(handler: Handler) -> None:
    """A header that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(4000):
        handler.wfile.write(f"X-{number}: 1\r\n".encode())
        time.sleep(0.05)


def endless_next(handler: Handler) -> None:
    """Another page, always."""
    link = f"/fhir/endless/Observation?page={time.monotonic_ns()}"
    send(handler, bundle(*(observation(n) for n in range(100)), link=link))


def redirect(handler: Handler) -> None:
    """To the address where clouds keep their secrets."""
    where = "http://169.254.169.254/latest/meta-data/"
    handler.reply(b"", 307, Location=where)


@cache
def gzip_bomb() -> bytes:
    """200 MB of blanks in 200 kB."""
    return gzip.compress(b" " * BOMB_BYTES, 9)


def bomb(handler: Handler) -> None:
    """The bomb, announced as what it is."""
    handler.reply(gzip_bomb(), content_type=FHIR_JSON, Content_Encoding="gzip")


def silent_bomb(handler: Handler) -> None:
    """The bomb, not announced: the body is just bytes."""
    handler.reply(gzip_bomb(), content_type=FHIR_JSON)


def flood(handler: Handler) -> None:
    """200 MB in chunks, without a length."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("Content-Type", FHIR_JSON)
    handler.end_headers()
    block = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    for _ in range(200):
        handler.wfile.write(block)


@cache
def empty_objects() -> bytes:
    """Fifteen megabytes of empty objects."""
    items = b",".join([b"{}"] * 5_000_000)
    return b'{"resourceType": "Bundle", "entry": [' + items + b"]}"


def many_values(handler: Handler) -> None:
    """Small on the wire, large when parsed."""
    handler.reply(empty_objects(), content_type=FHIR_JSON)


def deep(handler: Handler) -> None:
    """Brackets, a million deep."""
    handler.reply(b"[" * 1_000_000, content_type=FHIR_JSON)


def looped(handler: Handler) -> None:
    """References and pages that lead to themselves."""
    one = observation(1)
    one["hasMember"] = [{"reference": "Observation/o2"}]
    two = observation(2)
    two["hasMember"] = [{"reference": "Observation/o1"}]
    send(handler, bundle(one, two, link="/fhir/looped/Observation?again"))


def wrong_patient(handler: Handler) -> None:
    """Somebody else's chart."""
    if "/Patient/" in handler.path:
        send(handler, patient("p2"))
    else:
        send(handler, bundle(*(observation(n, "p2") for n in range(50))))


def dead(handler: Handler) -> None:
    """Hangs up."""
    handler.close_connection = True


@cache
def empty_instances() -> bytes:
    """A million instances without a tag."""
    return b"[" + b",".join([b'{"00080018":{}}'] * 1_000_000) + b"]"


def metadata_flood(handler: Handler) -> None:
    """DICOM JSON of a million instances."""
    handler.reply(empty_instances(), content_type="application/dicom+json")


def part_flood(handler: Handler) -> None:
    """A multipart with a hundred thousand parts."""
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\nx\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    handler.reply(part * 100_000 + b"--b--\r\n", content_type=kind)


ATTACKS: dict[str, Callable[[Handler], None]] = {
    "drip": drip,
    "head_drip": head_drip,
    "endless": endless_next,
    "redirect": redirect,
    "gzip": bomb,
    "silent_gzip": silent_bomb,
    "flood": flood,
    "values": many_values,
    "deep": deep,
    "looped": looped,
    "wrong": wrong_patient,
    "dead": dead,
    "metadata": metadata_flood,
    "parts": part_flood,
}


def answer(handler: Handler) -> None:
    """Attack as the second step of the path says."""
    name = urlsplit(handler.path).path.split("/")[2]
    ATTACKS[name](handler)
