"""The whole plugin on this machine: ``make demo``.

Starts a sandbox EHR and the four processes, opens a chart, calls the hook as an EHR
does, prints the card and what it took, has the audit log verified, and then serves the
chart page until Ctrl-C (``--once``: exits instead). The last line is JSON.

It serves the checkpoint ``demo``; ``--model small`` (or ``TRIVIUM_CHECKPOINT``) names
the one whose encoders have seen real films and real language, or any other folder.

With ``--data FOLDER`` the tiny preset is first trained on that folder's train split
(kept under ``var/models``), cases of its test split are imported as FHIR and DICOM, and
the hook is called for each.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyotp

from deploy.demo_print import print_audit, print_calls, print_card, print_study
from deploy.demo_stage import (
    BIN,
    REPOSITORY,
    DemoError,
    Stage,
    call,
    only_one,
    prepare,
    processes,
)
from deploy.sandbox.cds_client import HookCall, call_hook
from deploy.sandbox.ehr import Ehr, open_ehr
from model.errors import ModelError

ASSESSMENT = "dev.trivium.assessment"
CHECKPOINTS = REPOSITORY / "model" / "checkpoints"
#: The shipped checkpoint that the demonstration serves.
SERVED = "demo"
READY_SECONDS = 60.0
SYNTHETIC_PATIENTS = 6
SYNTHETIC_SEED = 36


def main() -> int:
    """Parse the command line and run the demo; the exit status."""
    options = _options()
    try:
        return run(options)
    except (DemoError, ModelError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def run(options: argparse.Namespace) -> int:
    """Prepare, start, call, print, verify; then serve unless ``--once``."""
    with only_one(options.folder):
        checkpoint = _checkpoint(options.data, options.model)
        stage = prepare(options.folder, checkpoint)
        _fill_store(stage, options)
        return play(stage, options)


def play(stage: Stage, options: argparse.Namespace) -> int:
    """Start everything, call the hook for every patient, report."""
    with processes(stage):
        ehr = open_ehr(stage.store, stage.ehr_url, stage.public_url)
        patients = [p["id"] for p in ehr.store.all("Patient")]
        if not patients:
            raise DemoError("the sandbox EHR holds no patient")
        calls = [assess(ehr, patient) for patient in _progress(patients)]
        print_card(shown(calls))
        print_calls(calls)
        if options.data is not None:
            print_study(calls, _labels(options.data))
        audit = _verify(stage)
        print_audit(audit)
        print(json.dumps(summary(calls, audit)), flush=True)
        if not options.once:
            _serve(stage)
    return 0 if audit["verified"] else 1


class Assessed:
    """One patient's way from the first card to the ready one; times in ms."""

    def __init__(self, patient: str, first: HookCall, ready: HookCall, ms: float):
        self.patient, self.first, self.ready = patient, first, ready
        self.first_ms, self.ready_ms = first.elapsed_ms, ms

    @property
    def card(self) -> dict[str, Any]:
        """The last card that the hook answered with."""
        card: dict[str, Any] = self.ready.body["cards"][0]
        return card

    @property
    def assessment(self) -> dict[str, Any]:
        """The card's extension: state, contributions, presence, model."""
        extension: dict[str, Any] = self.card["extension"][ASSESSMENT]
        return extension


def assess(ehr: Ehr, patient: str) -> Assessed:
    """Call the hook until its card is no longer "not ready", as a chart would.

    Raises:
        DemoError: the service answered with an error, or never got ready.
    """
    started = time.monotonic()
    first = latest = _card(call_hook(ehr, patient), patient)
    while _state(latest) == "not-ready":
        if time.monotonic() - started > READY_SECONDS:
            raise DemoError(f"patient {patient}: not ready after {READY_SECONDS:.0f} s")
        time.sleep(0.1)
        latest = _card(call_hook(ehr, patient), patient)
    return Assessed(patient, first, latest, (time.monotonic() - started) * 1000)


def shown(calls: list[Assessed]) -> Assessed:
    """The patient whose card is printed whole: the first with an estimate, if any."""
    return next((c for c in calls if c.assessment.get("contributions")), calls[0])


def summary(calls: list[Assessed], audit: dict[str, Any]) -> dict[str, Any]:
    """The last line: all cards; times and contributions of the one shown; audit."""
    first = shown(calls)
    return {
        "cards": [c.card for c in calls],
        "first_card_ms": round(first.first_ms),
        "ready_card_ms": round(first.ready_ms),
        "contributions": first.assessment.get("contributions"),
        "audit": {"verified": audit["verified"], "records": audit["records"]},
    }


def _card(answer: HookCall, patient: str) -> HookCall:
    if answer.status != 200 or not answer.body.get("cards"):
        raise DemoError(f"patient {patient}: the hook answered {answer.status}")
    return answer


def _state(answer: HookCall) -> str:
    return str(answer.body["cards"][0]["extension"][ASSESSMENT]["state"])


def _checkpoint(data: Path | None, name: str) -> Path:
    """The checkpoint asked for, or one trained on the folder's train split."""
    if data is None:
        shipped = CHECKPOINTS / name
        return shipped if shipped.is_dir() else Path(name).resolve()
    # Imported here: without a folder the demo itself needs no torch.
    from model.datasets.trimodal_folder import training_digest

    folder = REPOSITORY / "var" / "models" / training_digest(data)[:16]
    if not (folder / "manifest.json").exists():
        print(f"training the tiny preset on {data}", file=sys.stderr)
        arguments = ["--preset", "tiny", "--data", str(data), "--out", str(folder)]
        trained = subprocess.run([BIN / "trivium-model", "train", *arguments])
        if trained.returncode:
            raise DemoError(f"training on {data} failed")
    return folder


def _labels(folder: Path) -> dict[str, bool]:
    """Labels of the test cases that may enter a figure: see ``folder_study``."""
    from model.datasets.trimodal_folder import read_cases
    from model.training.folder_study import eligible

    cases = eligible(read_cases(folder, splits=("test",)))
    return {case.case_id: bool(case.covid19) for case in cases}


def _fill_store(stage: Stage, options: argparse.Namespace) -> None:
    command = ["-m", "deploy.sandbox"]
    if options.data is None:
        command += ["synthetic", "--n", str(SYNTHETIC_PATIENTS)]
        command += ["--seed", str(SYNTHETIC_SEED)]
    else:
        command += ["import", str(options.data), "--split", "test", "--primary"]
        if options.limit is not None:
            command += ["--limit", str(options.limit)]
    call(stage, "python", *command, "--store", str(stage.store))


def _verify(stage: Stage) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        call(stage, "trivium-audit", "verify", "--json")
    )
    return report


def _progress(patients: list[str]) -> Any:
    from tqdm import tqdm

    return tqdm(patients, desc="charts opened", unit="chart", file=sys.stderr)


def _serve(stage: Stage) -> None:
    print(f"\nchart page      {stage.ehr_url}/")
    print(f"auditor console {stage.auditor_url}/  {_auditor_login(stage)}")
    print(f"process output  {stage.log}\nCtrl-C stops everything.", flush=True)
    while True:
        time.sleep(3600)


def _auditor_login(stage: Stage) -> str:
    """A login of its own for this run, with a one-time code that is good right now."""
    name = f"demo-{secrets.token_hex(3)}"
    arguments = ("user", "add", name, "--role", "auditor", "--generate", "--json")
    made = json.loads(call(stage, "trivium-audit", *arguments))
    code = pyotp.TOTP(made["totp_secret"])
    return (
        f"name {name}, password {made['password']}, code now {code.now()} "
        f"(secret {made['totp_secret']})"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=REPOSITORY / "var" / "demo",
        help="where keys, databases and logs go (default: var/demo)",
    )
    parser.add_argument("--once", action="store_true", help="exit after the report")
    parser.add_argument(
        "--data", type=Path, help="folder of cases: cases.jsonl and images/"
    )
    parser.add_argument("--limit", type=int, help="at most so many cases of the folder")
    parser.add_argument(
        "--model",
        default=os.environ.get("TRIVIUM_CHECKPOINT") or SERVED,
        help="shipped checkpoint by name (small, demo) or a checkpoint folder; without "
        f"--data only (default: TRIVIUM_CHECKPOINT, else {SERVED})",
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
