"""A token id is good for one call, in all processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cds_hooks.errors import ReplayStoreError
from cds_hooks.replay import ReplayStore


def test_the_second_use_is_refused_also_by_another_object(tmp_path: Path) -> None:
    one, two = ReplayStore(tmp_path / "r.db"), ReplayStore(tmp_path / "r.db")
    assert one.first_use("iss", "jti", 400.0, 100.0)
    assert not one.first_use("iss", "jti", 400.0, 101.0)
    assert not two.first_use("iss", "jti", 400.0, 101.0)
    assert two.first_use("other", "jti", 400.0, 101.0)
    assert two.first_use("is", "sjti", 400.0, 101.0)
    one.close()
    two.close()


def test_another_process_knows_it_too(tmp_path: Path) -> None:
    store = ReplayStore(tmp_path / "r.db")
    assert store.first_use("iss", "jti", 400.0, 100.0)
    code = (
        "import sys; from pathlib import Path;"
        "from cds_hooks.replay import ReplayStore;"
        "s = ReplayStore(Path(sys.argv[1]));"
        "print(s.first_use('iss', 'jti', 400.0, 101.0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    store.close()
    assert done.stdout.strip() == "False", done.stderr


def test_of_many_threads_one_is_first(tmp_path: Path) -> None:
    stores = [ReplayStore(tmp_path / "r.db", timeout_s=5.0) for _ in range(4)]
    first: list[bool] = []

    def use(store: ReplayStore) -> None:
        for _ in range(10):
            first.append(store.first_use("iss", "jti", 400.0, 100.0))

    threads = [threading.Thread(target=use, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert first.count(True) == 1 and len(first) == 40


def test_expired_rows_go_and_live_ones_stay(tmp_path: Path) -> None:
    store = ReplayStore(tmp_path / "r.db")
    assert store.first_use("iss", "old", 150.0, 100.0)
    assert store.first_use("iss", "new", 900.0, 100.0)
    assert store.first_use("iss", "third", 900.0, 300.0)
    rows = sqlite3.connect(tmp_path / "r.db")
    assert rows.execute("SELECT count(*) FROM used").fetchone() == (2,)
    assert b"iss" not in rows.execute("SELECT digest FROM used").fetchone()[0]
    rows.close()
    assert not store.first_use("iss", "new", 900.0, 301.0)
    store.close()


def test_a_store_that_does_not_answer_is_an_error_not_a_yes(tmp_path: Path) -> None:
    store = ReplayStore(tmp_path / "r.db", timeout_s=0.01)
    blocker = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(ReplayStoreError):
        store.first_use("iss", "jti", 400.0, 100.0)
    blocker.rollback()
    blocker.close()
    store.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplayStoreError):
        ReplayStore(tmp_path / "file" / "r.db")
