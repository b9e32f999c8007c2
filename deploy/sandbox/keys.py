"""The sandbox's keys, made on first start and kept in the store folder (mode 0600).

- ``signing.json``: one ES384 key. It signs the JWT of the CDS Hooks client and the
  id_token of the SMART server; both name the same JWKS, and their audiences differ.
- ``tokens.key``: 32 random bytes. Access tokens and page tokens are opaque strings
  sealed with it, so that any process on the same store folder can check them and no
  table of tokens has to be kept.

There is no default key: what is not in the folder is generated.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey


@dataclass(frozen=True)
class SandboxKeys:
    """Signing key (private) and token secret of one store folder."""

    signing: ECKey
    token_secret: bytes

    @property
    def kid(self) -> str:
        """Key id: the RFC 7638 thumbprint."""
        return str(self.signing.thumbprint())

    def jwks(self) -> dict[str, Any]:
        """The public key set, as served at /jwks.json."""
        public = dict(self.signing.as_dict(private=False))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "ES384"}]}


def load_keys(folder: Path) -> SandboxKeys:
    """Read the keys below ``folder``, making those that are missing."""
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = json.dumps(ECKey.generate_key("P-384").as_dict(private=True)).encode()
    signing = _read_or_create(keys / "signing.json", private)
    secret = _read_or_create(keys / "tokens.key", secrets.token_bytes(32))
    return SandboxKeys(ECKey.import_key(json.loads(signing)), secret)


def _read_or_create(path: Path, fresh: bytes) -> bytes:
    """The file's content; ``fresh`` is written when it does not exist yet.

    The content is complete before the name exists: another process that opens the
    same store at the same moment reads the whole key or makes none.
    """
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(fresh)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # the other process won; its key is the key
        finally:
            draft.unlink()
    return path.read_bytes()
