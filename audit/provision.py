"""First set-up: key files, folders and both databases (``trivium-audit init``)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from audit import key_tables
from audit.database import check_durable, open_engine
from audit.errors import AuditConfigurationError
from audit.key_files import create_key, read_keys, write_new
from audit.settings import AuditSettings

_MIGRATIONS = Path(__file__).parent / "migrations"


def initialise(settings: AuditSettings, if_missing: bool = False) -> list[str]:
    """Create what is not there; return the names of what was created.

    Args:
        settings: where everything goes.
        if_missing: keep key files that exist; without it they are an error.

    Raises:
        AuditConfigurationError: a key file exists, or something cannot be made.
    """
    files: tuple[tuple[str, Path, Callable[[], object]], ...] = (
        (
            "TRIVIUM_AUDIT_KEK_FILE",
            settings.kek_file,
            lambda: create_key(settings.kek_file, "TRIVIUM_AUDIT_KEK_FILE"),
        ),
        (
            "TRIVIUM_AUDIT_INDEX_KEY_FILE",
            settings.index_key_file,
            lambda: create_key(settings.index_key_file, "TRIVIUM_AUDIT_INDEX_KEY_FILE"),
        ),
        (
            "TRIVIUM_AUDIT_NODE_KEY_FILE",
            settings.node_key_file,
            lambda: _create_node_key(settings),
        ),
    )
    # All are looked at before any is written: no half set of keys after a refusal.
    existing = [name for name, path, _ in files if path.exists()]
    if existing and not if_missing:
        raise AuditConfigurationError(existing[0], "file exists and is not overwritten")
    created = []
    for name, path, create in files:
        if not path.exists():
            create()
            created.append(name)
    _make_folders(settings)
    migrate(settings.url, "evidence", "TRIVIUM_AUDIT_URL")
    migrate(settings.keys_url, "keys", "TRIVIUM_AUDIT_KEYS_URL")
    _register_epochs(settings)
    return created


def _create_node_key(settings: AuditSettings) -> None:
    key = create_key(settings.node_key_file, "TRIVIUM_AUDIT_NODE_KEY_FILE")
    public = Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    if not settings.trust_file.exists():
        text = public.hex() + "\n"
        write_new(settings.trust_file, text, 0o644, "TRIVIUM_AUDIT_TRUST_FILE")


def _make_folders(settings: AuditSettings) -> None:
    settings.journal.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.checkpoints.parent.mkdir(parents=True, exist_ok=True)
    for url in (settings.url, settings.keys_url):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            path = Path(parsed.database)
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives its side files the mode of the database file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def migrate(url: str, schema: str, setting: str) -> None:
    """Bring one database to the newest revision.

    Args:
        url: SQLAlchemy URL.
        schema: "evidence" or "keys".
        setting: name of the variable, for errors.

    Raises:
        AuditConfigurationError: the database cannot be reached or is not durable.
    """
    engine = open_engine(url, setting=setting, busy_ms=10_000)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS / schema))
    config.set_main_option("path_separator", "os")
    try:
        with engine.connect() as connection:
            check_durable(connection, setting)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as exc:
        raise AuditConfigurationError(setting, "database cannot be set up") from exc
    finally:
        engine.dispose()


def _register_epochs(settings: AuditSettings) -> None:
    epochs = read_keys(settings.kek_file, "TRIVIUM_AUDIT_KEK_FILE")
    table = key_tables.kek_epoch
    engine = open_engine(
        settings.keys_url, setting="TRIVIUM_AUDIT_KEYS_URL", busy_ms=10_000
    )
    with engine.begin() as connection:
        known = set(connection.execute(select(table.c.epoch)).scalars())
        for epoch in sorted(set(epochs) - known):
            now = time.time_ns() // 1000
            values = {"epoch": epoch, "provider": "file", "state": 1, "created_us": now}
            connection.execute(insert(table).values(values))
    engine.dispose()
