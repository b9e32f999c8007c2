"""Logins of the auditors' console: password, one-time code, lock-out.

Rules:

1. Passwords are stored as argon2id hashes; one-time secrets are encrypted under the
   KEK, bound to their owner (attack: a stolen key database).
2. Each one-time code works once, decided by the database (RFC 6238, 5.2; attack: a
   code read over a shoulder and used within its half minute).
3. Five failures in a row lock a login for 15 minutes, wrong codes included (attack:
   guessing), and an unknown name costs as much time as a known one (attack: finding
   out who has a login).
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Row, case, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from audit.chain import ZERO_ID
from audit.cipher import unwrap, wrap
from audit.database import reading
from audit.errors import KeysUnavailableError, RefusedError
from audit.key_store import KeyStore
from audit.key_tables import console_user

MAX_FAILURES = 5
LOCK_SECONDS = 15 * 60
MIN_PASSWORD = 12  # characters
STEP_SECONDS = 30
_NAME = re.compile(r"[a-z][a-z0-9._-]{1,63}")
_HASHER = PasswordHasher()
_TOTP_CLASS = 101  # wrap context, apart from the classes of envelopes


class Role(StrEnum):
    """What a login may do."""

    AUDITOR = "auditor"
    PRIVACY_OFFICER = "privacy-officer"


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A login without its secrets."""

    name: str
    role: Role
    disabled: bool
    locked: bool
    created_us: int


class UserStore:
    """The table of logins in the key database."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def add(self, name: str, role: Role, password: str) -> str:
        """Create a login; returns its one-time secret in base32, shown only once.

        Raises:
            RefusedError: name, password or role will not do, or the name is taken.
            KeysUnavailableError: the key database does not answer.
        """
        if not _NAME.fullmatch(name):
            raise RefusedError("name must be 2 to 64 of a-z 0-9 . _ -")
        if len(password) < MIN_PASSWORD:
            raise RefusedError(f"password must have {MIN_PASSWORD} characters")
        secret = pyotp.random_base32()
        epoch, kek = self._store.kek()
        wrapped = wrap(kek, epoch, secret.encode(), *_context(name))
        values = {
            "name": name,
            "role": Role(role).value,
            "password_hash": _HASHER.hash(password),
            "totp_wrapped": wrapped,
            "kek_epoch": epoch,
            "totp_last_step": 0,
            "failures": 0,
            "locked_until_us": 0,
            "disabled": False,
            "created_us": _now_us(),
        }
        try:
            with self._store.engine.begin() as connection:
                connection.execute(insert(console_user).values(values))
        except IntegrityError as exc:
            raise RefusedError("name is taken") from exc
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc
        return secret

    def list(self) -> list[ConsoleUser]:
        """All logins by name.

        Raises:
            KeysUnavailableError: the key database does not answer.
        """
        query = select(console_user).order_by(console_user.c.name)
        try:
            with reading(self._store.engine).begin() as connection:
                return [_user(row) for row in connection.execute(query)]
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc

    def find(self, name: str) -> ConsoleUser | None:
        """One login, or None."""
        row = self._row(name)
        return None if row is None else _user(row)

    def disable(self, name: str) -> None:
        """Close a login for good.

        Raises:
            RefusedError: there is none of that name.
            KeysUnavailableError: the key database does not answer.
        """
        if not self._update(name, {"disabled": True}):
            raise RefusedError("no such user")

    def verify_password(self, name: str, password: str) -> bool:
        """Whether the password is right and the login open; counts failures.

        A right password does not reset the count: the one-time code does.

        Raises:
            KeysUnavailableError: the key database does not answer.
        """
        row = self._row(name)
        stored = _decoy() if row is None else row.password_hash
        right = _is_password(stored, password)
        if row is None or not _open(row):
            return False
        if not right:
            self._failed(name)
        return right

    def verify_totp(self, name: str, code: str) -> bool:
        """Whether the one-time code is right, new and the login open.

        Accepts the current half minute and one on either side.

        Raises:
            KeysUnavailableError: the key database does not answer.
            DecryptionError: the stored secret does not open.
        """
        row = self._row(name)
        if row is None or not _open(row):
            return False
        kek = self._store.kek_of(row.kek_epoch)
        secret = unwrap(kek, row.kek_epoch, row.totp_wrapped, *_context(name)).decode()
        totp = pyotp.TOTP(secret)
        now = int(time.time()) // STEP_SECONDS
        for step in (now - 1, now, now + 1):
            expected = totp.at(step * STEP_SECONDS)
            if hmac.compare_digest(expected.encode(), code.encode()):
                if self._spend(name, step):
                    return True
                break
        self._failed(name)
        return False

    def _spend(self, name: str, step: int) -> bool:
        """Rule 2: only the first use moves the number on."""
        newer = console_user.c.totp_last_step < step
        values = {"totp_last_step": step, "failures": 0}
        return self._update(name, values, newer)

    def _failed(self, name: str) -> None:
        """Rule 3, in one statement so that parallel guesses all count."""
        failures = console_user.c.failures + 1
        until = _now_us() + LOCK_SECONDS * 1_000_000
        full = failures >= MAX_FAILURES
        values = {
            "failures": case((full, 0), else_=failures),
            "locked_until_us": case(
                (full, until), else_=console_user.c.locked_until_us
            ),
        }
        self._update(name, values)

    def _update(
        self, name: str, values: Mapping[str, object], *where: ColumnElement[bool]
    ) -> bool:
        statement = update(console_user).where(console_user.c.name == name, *where)
        try:
            with self._store.engine.begin() as connection:
                result = connection.execute(statement.values(values))
                return result.rowcount > 0
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc

    def _row(self, name: str) -> Row[Any] | None:
        query = select(console_user).where(console_user.c.name == name)
        try:
            with reading(self._store.engine).begin() as connection:
                return connection.execute(query).first()
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc


@cache
def _decoy() -> str:
    """Rule 3: something to compare with when the name is unknown."""
    return _HASHER.hash("a password that nobody has")


def _is_password(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _open(row: Row[Any]) -> bool:
    return not row.disabled and row.locked_until_us <= _now_us()


def _user(row: Row[Any]) -> ConsoleUser:
    return ConsoleUser(
        name=row.name,
        role=Role(row.role),
        disabled=row.disabled,
        locked=row.locked_until_us > _now_us(),
        created_us=row.created_us,
    )


def _context(name: str) -> tuple[bytes, int, bytes]:
    owner = sha256(b"trivium.console\x00" + name.encode()).digest()[:16]
    return owner, _TOTP_CLASS, ZERO_ID


def _now_us() -> int:
    return time.time_ns() // 1000
