"""Command line of the sandbox EHR: serve, import, synthetic, load."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

from deploy.sandbox.errors import SandboxError
from deploy.sandbox.store import Store

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """The argument parser; every command documents itself."""
    root = argparse.ArgumentParser(
        prog="python -m deploy.sandbox",
        description="A small EHR for trying Trivium: FHIR R4, DICOMweb, SMART and "
        "chart pages, on this machine only. No login: use demonstration data only.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_import(commands)
    _add_synthetic(commands)
    _add_load(commands)
    return root


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 1 with a sentence when not."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


def _store_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--store", type=Path, required=True, help="folder that holds the patients"
    )


def _add_serve(commands: Commands) -> None:
    command = commands.add_parser(
        "serve",
        help="serve the store until stopped",
        description="Serve the store's patients. Import before you serve: a running "
        "sandbox does not see what another process adds.",
    )
    _store_argument(command)
    command.add_argument("--host", default="127.0.0.1", help="loopback only")
    command.add_argument("--port", type=int, default=8100)
    command.add_argument(
        "--service",
        default="http://127.0.0.1:8000",
        help="address of the CDS Hooks and SMART server (default: %(default)s)",
    )
    command.set_defaults(run=_serve)


def _add_import(commands: Commands) -> None:
    command = commands.add_parser(
        "import",
        help="import published cases (cases.jsonl and images/)",
        description="Import cases as patients: masked notes only, no labels, dates "
        "made up. Licences and credits are written to CREDITS.tsv of the store.",
    )
    command.add_argument("folder", type=Path, help="folder with cases.jsonl")
    _store_argument(command)
    command.add_argument("--split", help="only this split (train, val, test)")
    command.add_argument(
        "--primary", action="store_true", help="one frontal film per person"
    )
    command.add_argument("--limit", type=int, help="at most so many cases")
    command.add_argument("--ids", type=Path, help="file with one case id a line")
    command.add_argument(
        "--day",
        type=date.fromisoformat,
        help="day that the newest item of each case is put on (default: today, UTC)",
    )
    command.set_defaults(run=_import)


def _add_synthetic(commands: Commands) -> None:
    command = commands.add_parser(
        "synthetic",
        help="add synthetic patients",
        description="Add synthetic patients; of each six, one lacks the film, one "
        "the note and one the values.",
    )
    _store_argument(command)
    command.add_argument("--n", type=int, default=6, help="how many (default: 6)")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--image-size", type=int, default=224, help="32 to 224 pixels")
    command.set_defaults(run=_synthetic)


def _add_load(commands: Commands) -> None:
    command = commands.add_parser(
        "load",
        help="load FHIR Bundles or NDJSON files",
        description="Load FHIR R4: Bundles (*.json, *.json.gz) and NDJSON "
        "(*.ndjson, *.ndjson.gz). Types the sandbox does not serve are left out.",
    )
    command.add_argument("folder", type=Path)
    _store_argument(command)
    command.set_defaults(run=_load)


def _serve(given: argparse.Namespace) -> int:
    from deploy.sandbox.app import create_app, serve

    base_url = f"http://127.0.0.1:{given.port}"
    app = create_app(given.store, base_url, given.service)
    print(f"sandbox EHR: {base_url}/", flush=True)
    serve(app, given.host, given.port)
    return 0


def _import(given: argparse.Namespace) -> int:
    from deploy.sandbox.import_cases import CaseFilter, import_folder

    ids = None
    if given.ids is not None:
        if not given.ids.is_file():
            raise SandboxError("no such file of ids")
        ids = frozenset(given.ids.read_text(encoding="utf-8").split())
    wanted = CaseFilter(given.split, given.primary, given.limit, ids)
    day = given.day or datetime.now(UTC).date()
    made = import_folder(given.folder, Store(given.store), wanted, day)
    print(f"{len(made)} patients imported; licences are in CREDITS.tsv")
    return 0


def _synthetic(given: argparse.Namespace) -> int:
    from deploy.sandbox.synthetic_cases import add_synthetic

    made = add_synthetic(
        Store(given.store),
        given.n,
        given.seed,
        datetime.now(UTC),
        image_size=given.image_size,
    )
    print(f"{len(made)} synthetic patients: {', '.join(made)}")
    return 0


def _load(given: argparse.Namespace) -> int:
    from deploy.sandbox.load_folder import load_folder

    stored, left_out = load_folder(given.folder, Store(given.store))
    print("stored: " + _counts(stored))
    print("left out: " + _counts(left_out))
    return 0


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
