"""A private Orthanc with DICOMweb, fed by STOW-RS: what the client is tried on."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import services

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_USER, _PASSWORD = "pacs", "only-for-this-test"


@dataclass(frozen=True)
class Orthanc:
    """A running archive."""

    origin: str

    @property
    def base(self) -> str:
        """DICOMweb root."""
        return f"{self.origin}/dicom-web"

    @property
    def authorization(self) -> str:
        """Authorization header value."""
        pair = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        return f"Basic {pair}"

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            self._send("/system")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    def store(self, files: Iterable[bytes]) -> None:
        """STOW-RS (PS3.18 section 10.5)."""
        boundary = uuid.uuid4().hex
        body = b"".join(
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            + file
            + b"\r\n"
            for file in files
        )
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
        self._send("/dicom-web/studies", body + f"--{boundary}--\r\n".encode(), headers)

    def _send(
        self,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        request = urllib.request.Request(self.origin + path, body, headers or {})
        request.add_header("Authorization", self.authorization)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return bytes(answer.read())


@contextmanager
def orthanc_server(folder: Path) -> Iterator[Orthanc]:
    """Start one on a free port, with its data below ``folder``."""
    program = services.binary("Orthanc", "Orthanc", "/usr/sbin/Orthanc")
    if not PLUGIN.exists():
        # The same visible skip (or failure) as for a missing program.
        services.binary("orthanc-dicomweb", str(PLUGIN))
    port = services.free_port()
    settings = {
        "Name": "TESTPACS",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {_USER: _PASSWORD},
        "HttpServerEnabled": True,
        "HttpPort": port,
        "DicomServerEnabled": False,
        "StableAge": 2,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": False,
            "Host": "127.0.0.1",
            "Ssl": False,
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with services.running([program, str(path)], **quiet):
        archive = Orthanc(f"http://127.0.0.1:{port}")
        services.wait_until(archive.ready, "Orthanc")
        yield archive
