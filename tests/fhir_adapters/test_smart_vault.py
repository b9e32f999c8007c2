"""Tokens at rest: sealed, bound, rotated, and refreshed by one worker at a time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_adapters.access.fhir_client import FhirClient
from fhir_adapters.access.outbound import OutboundDoor, OutboundPolicy
from fhir_adapters.access.smart_oauth import Registration, SmartClient
from fhir_adapters.access.smart_types import TokenSet
from fhir_adapters.access.smart_vault import TokenVault, VaultBearer
from fhir_adapters.errors import SmartError, UpstreamTimeoutError
from tests.fhir_adapters.auth_server import RING, auth_server

KEY, OTHER = bytes(range(32)), bytes(32)
TOKENS = TokenSet(
    access_token="CANARY-AT",
    patient="CANARY-P1",
    encounter=None,
    fhir_user=None,
    scope="patient/Patient.r",
    expires_at=4e9,
    id_token_claims={"sub": "CANARY-SUB"},
    missing_scopes=("openid",),
    issuer="https://ehr.example/fhir",
    refresh_token="CANARY-RT",
)


@pytest.fixture
def vault(tmp_path: Path) -> TokenVault:
    return TokenVault(tmp_path / "tokens.sqlite3", {"k1": KEY})


def reason(call, *arguments) -> str:
    with pytest.raises(SmartError) as refused:
        call(*arguments)
    return refused.value.reason


@pytest.mark.smart("S26")
def test_what_is_kept_comes_back_by_its_handle_only(vault: TokenVault) -> None:
    handle = vault.put(TOKENS, 60)
    assert vault.get(handle) == replace(TOKENS, id_token_claims={})
    assert reason(vault.get, handle + "x") == "session_ended"
    vault.drop(handle)
    assert reason(vault.get, handle) == "session_ended"


@pytest.mark.smart("S26")
def test_the_file_tells_nothing(vault: TokenVault, tmp_path: Path) -> None:
    handle = vault.put(TOKENS, 60)
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"CANARY" not in data and handle.encode() not in data
    assert (tmp_path / "tokens.sqlite3").stat().st_mode & 0o077 == 0


@pytest.mark.smart("S26")
def test_a_key_can_be_changed_while_sessions_live(tmp_path: Path) -> None:
    path = tmp_path / "tokens.sqlite3"
    old = TokenVault(path, {"k1": KEY}).put(TOKENS, 60)
    both = TokenVault(path, {"k2": OTHER, "k1": KEY})
    new = both.put(TOKENS, 60)
    with sqlite3.connect(path) as db:
        assert dict(db.execute("SELECT kid, count(*) FROM tokens GROUP BY kid")) == {
            "k1": 1,
            "k2": 1,
        }
    assert both.get(old).access_token == both.get(new).access_token == "CANARY-AT"
    only = TokenVault(path, {"k2": OTHER})
    assert only.get(new).patient == "CANARY-P1"
    assert reason(only.get, old) == "session_ended"
    assert reason(TokenVault(path, {"k1": OTHER}).get, old) == "session_ended"


@pytest.mark.smart("S26")
def test_a_row_moved_to_another_session_does_not_open(
    vault: TokenVault, tmp_path: Path
) -> None:
    mine, theirs = vault.put(TOKENS, 60), vault.put(replace(TOKENS, patient="p2"), 60)
    with sqlite3.connect(tmp_path / "tokens.sqlite3") as db:
        rows = db.execute("SELECT body FROM tokens").fetchall()
        db.execute("UPDATE tokens SET body = ?", rows[0])
    outcomes = []
    for handle in (mine, theirs):
        try:
            vault.get(handle)
            outcomes.append("open")
        except SmartError as error:
            outcomes.append(error.reason)
    assert sorted(outcomes) == ["open", "session_ended"]


def test_an_expired_session_is_over_and_cleared(tmp_path: Path) -> None:
    now = [1000.0]
    vault = TokenVault(tmp_path / "t", {"k": KEY}, clock=lambda: now[0])
    handle = vault.put(TOKENS, 60)
    now[0] = 1061.0
    assert reason(vault.get, handle) == "session_ended"
    vault.put(TOKENS, 60)
    with sqlite3.connect(tmp_path / "t") as db:
        assert db.execute("SELECT count(*) FROM tokens").fetchone() == (1,)


@pytest.mark.parametrize("keys", [{}, {"k": b"short"}])
def test_there_is_no_vault_without_a_key(tmp_path: Path, keys) -> None:
    assert reason(TokenVault, tmp_path / "t", keys) == "vault_keys"


@pytest.mark.smart("S25")
@pytest.mark.ssrf("X33")
def test_threads_refresh_once(vault: TokenVault) -> None:
    handle = vault.put(TOKENS, 60)
    asked, found = [], []

    def refresh(tokens: TokenSet) -> TokenSet:
        asked.append(tokens.refresh_token)
        time.sleep(0.1)
        return replace(tokens, access_token="new", refresh_token="rt-2")

    def work() -> None:
        end = time.monotonic() + 5
        fresh = vault.refreshed(handle, "CANARY-AT", refresh, end)
        found.append(fresh.access_token)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["CANARY-RT"] and found == ["new"] * 6
    assert vault.get(handle).refresh_token == "rt-2"


PROGRAM = """
import sys, time
from dataclasses import replace
from pathlib import Path
from fhir_adapters.access.smart_vault import TokenVault

vault = TokenVault(Path(sys.argv[1]), {"k1": bytes(range(32))})

def refresh(tokens):
    with open(sys.argv[3], "a") as log:
        log.write(f"{tokens.refresh_token}\\n")
    time.sleep(0.2)
    return replace(tokens, access_token="new", refresh_token="rt-2")

done = vault.refreshed(sys.argv[2], "CANARY-AT", refresh, time.monotonic() + 20)
print(done.access_token)
"""


@pytest.mark.smart("S25")
@pytest.mark.ssrf("X33")
def test_workers_refresh_once(
    vault: TokenVault, tmp_path: Path, repository: Path
) -> None:
    handle, log = vault.put(TOKENS, 60), tmp_path / "log"
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                str(tmp_path / "tokens.sqlite3"),
                handle,
                str(log),
            ],
            cwd=repository,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert answers == ["new"] * 3
    assert log.read_text().split() == ["CANARY-RT"]


@pytest.mark.smart("S25")
def test_a_worker_that_died_in_a_refresh_blocks_nobody_for_long(tmp_path: Path) -> None:
    now = [1000.0]
    vault = TokenVault(tmp_path / "t", {"k": KEY}, clock=lambda: now[0])
    handle = vault.put(TOKENS, 600)
    assert vault._lease(handle)
    with pytest.raises(UpstreamTimeoutError):
        vault.refreshed(handle, "CANARY-AT", lambda t: t, time.monotonic() + 0.05)
    now[0] += 11
    fresh = vault.refreshed(
        handle,
        "CANARY-AT",
        lambda t: replace(t, access_token="new"),
        time.monotonic() + 1,
    )
    assert fresh.access_token == "new"


@pytest.mark.smart("S25")
def test_a_session_that_the_server_ended_is_gone_and_others_are_not(
    vault: TokenVault,
) -> None:
    handle = vault.put(TOKENS, 60)

    def fails(reason_code: str):
        def refresh(tokens: TokenSet) -> TokenSet:
            raise SmartError(reason_code)

        return refresh

    end = time.monotonic() + 5
    call = vault.refreshed
    assert reason(call, handle, "CANARY-AT", fails("token_refused"), end) == (
        "token_refused"
    )
    assert vault.get(handle) is not None
    assert reason(call, handle, "CANARY-AT", fails("session_ended"), end) == (
        "session_ended"
    )
    assert reason(vault.get, handle) == "session_ended"


@pytest.mark.smart("S25", "S34")
def test_a_fhir_client_lives_on_refreshed_tokens(tmp_path: Path) -> None:
    with auth_server() as (ehr, server):
        policy = OutboundPolicy(frozenset({server.origin}), loopback=True)
        with OutboundDoor(policy) as door:
            given = Registration(
                ehr.issuer, "trivium", "https://t.example/cb", keys=RING
            )
            smart = SmartClient(door, [given])
            scopes = "launch openid patient/Patient.r"
            url, pending = smart.begin(ehr.issuer, "l", scopes)
            tokens = smart.complete(pending, ehr.authorize(url))
            vault = TokenVault(tmp_path / "t", {"k": KEY})
            handle = vault.put(tokens, 600)
            ahead = [0.0]
            bearer = VaultBearer(
                vault, handle, smart.refresh, clock=lambda: time.time() + ahead[0]
            )
            fhir = FhirClient(ehr.issuer, door, bearer)

            def read() -> str:
                return str(fhir.read("Patient", "p1", time.monotonic() + 5)["id"])

            assert read() == "p1" and bearer.token() == "at-1"
            ehr.live.clear()  # 401: one refresh
            assert read() == "p1" and bearer.token() == "at-2"
            ahead[0] = 301.0  # over: a refresh before the request
            assert bearer.token() == "at-3"
            kept = replace(vault.get(handle), refresh_token=None)
            lent = VaultBearer(vault, vault.put(kept, 60), smart.refresh)
            assert lent.renewed("at-3") is None
