"""Console logins: hashes, one-time codes that work once, lock-out."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pyotp
import pytest

from audit.errors import DecryptionError, KeysUnavailableError, RefusedError
from audit.key_store import open_key_store
from audit.settings import AuditSettings
from audit.users import MAX_FAILURES, Role, UserStore
from tests.audit.conftest import settings_in

PASSWORD = "correct horse battery"


@pytest.fixture
def store(settings: AuditSettings) -> Iterator[UserStore]:
    with open_key_store(settings) as keys:
        yield UserStore(keys)


def change(settings: AuditSettings, statement: str) -> None:
    with closing(sqlite3.connect(settings.keys_url.removeprefix("sqlite:///"))) as db:
        db.execute(statement)
        db.commit()


def test_a_login_is_made_listed_and_closed(store: UserStore) -> None:
    store.add("alice", Role.AUDITOR, PASSWORD)
    store.add("bob.b", Role.PRIVACY_OFFICER, PASSWORD)
    assert [(u.name, u.role, u.disabled) for u in store.list()] == [
        ("alice", Role.AUDITOR, False),
        ("bob.b", Role.PRIVACY_OFFICER, False),
    ]
    store.disable("alice")
    assert store.find("alice").disabled
    assert not store.verify_password("alice", PASSWORD)
    assert store.find("nobody") is None
    with pytest.raises(RefusedError):
        store.disable("nobody")


@pytest.mark.parametrize("name", ["", "A", "x", "rm -rf", "a" * 65, "é-user"])
def test_names_are_plain(store: UserStore, name: str) -> None:
    with pytest.raises(RefusedError):
        store.add(name, Role.AUDITOR, PASSWORD)


def test_short_passwords_and_taken_names_are_refused(store: UserStore) -> None:
    with pytest.raises(RefusedError, match="12"):
        store.add("alice", Role.AUDITOR, "short")
    store.add("alice", Role.AUDITOR, PASSWORD)
    with pytest.raises(RefusedError, match="taken"):
        store.add("alice", Role.AUDITOR, PASSWORD)


def test_password_and_code_open_a_login(store: UserStore) -> None:
    secret = store.add("alice", Role.AUDITOR, PASSWORD)
    assert store.verify_password("alice", PASSWORD)
    assert not store.verify_password("alice", PASSWORD + "!")
    assert not store.verify_password("nobody", PASSWORD)
    assert not store.verify_totp("nobody", "000000")
    assert store.verify_totp("alice", pyotp.TOTP(secret).now())


def test_a_code_works_once(store: UserStore) -> None:
    totp = pyotp.TOTP(store.add("alice", Role.AUDITOR, PASSWORD))
    now = time.time()
    code = totp.at(now)
    assert store.verify_totp("alice", code)
    assert not store.verify_totp("alice", code)
    # Nor does an older one that was not used.
    assert not store.verify_totp("alice", totp.at(now - 30))
    assert not store.verify_totp("alice", totp.at(now - 300))


@pytest.mark.parametrize("factor", ["password", "code"])
def test_failures_lock_and_time_opens_again(
    store: UserStore, settings: AuditSettings, factor: str
) -> None:
    secret = store.add("alice", Role.AUDITOR, PASSWORD)
    for _ in range(MAX_FAILURES):
        assert not store.find("alice").locked
        if factor == "password":
            assert not store.verify_password("alice", "wrong")
        else:
            assert not store.verify_totp("alice", "abcdef")
    assert store.find("alice").locked
    assert not store.verify_password("alice", PASSWORD)
    assert not store.verify_totp("alice", pyotp.TOTP(secret).now())
    change(settings, "UPDATE console_user SET locked_until_us = 1")
    assert store.verify_password("alice", PASSWORD)


def test_nothing_secret_is_stored_in_clear(
    store: UserStore, settings: AuditSettings
) -> None:
    secret = store.add("alice", Role.AUDITOR, PASSWORD)
    for path in settings.kek_file.parent.glob("keys.db*"):
        data = path.read_bytes()
        assert secret.encode() not in data and PASSWORD.encode() not in data


def test_a_secret_moved_to_another_login_does_not_open(
    store: UserStore, settings: AuditSettings
) -> None:
    secret = store.add("alice", Role.AUDITOR, PASSWORD)
    change(settings, "UPDATE console_user SET name = 'mallory'")
    with pytest.raises(DecryptionError):
        store.verify_totp("mallory", pyotp.TOTP(secret).now())


def test_a_damaged_hash_is_a_wrong_password(
    store: UserStore, settings: AuditSettings
) -> None:
    store.add("alice", Role.AUDITOR, PASSWORD)
    change(settings, "UPDATE console_user SET password_hash = 'x'")
    assert not store.verify_password("alice", PASSWORD)


def test_a_broken_key_database_is_named(
    settings: AuditSettings, tmp_path: object
) -> None:
    broken = settings_in(
        settings.kek_file.parent, keys_url=f"sqlite:///{tmp_path}/none/keys.db"
    )
    with open_key_store(broken) as keys:
        users = UserStore(keys)
        for call in (
            users.list,
            lambda: users.find("alice"),
            lambda: users.disable("alice"),
            lambda: users.add("alice", Role.AUDITOR, PASSWORD),
        ):
            with pytest.raises(KeysUnavailableError):
                call()
