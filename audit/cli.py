"""``trivium-audit``: set up, verify, search, seal, replay, and the console's logins.

Exit codes: 0 done or intact, 2 tampered, 3 could not check or not available, 4 refused.
"""

from __future__ import annotations

import argparse
import getpass
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from audit.errors import AuditConfigurationError, AuditError, EventError, RefusedError
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Identifier,
    LawfulBasis,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.key_store import open_key_store
from audit.log import AuditLog
from audit.provision import initialise
from audit.sealer import only_sealer
from audit.search import AuditQuery, search
from audit.settings import AuditSettings, read_settings
from audit.stream import StreamKind
from audit.users import Role, UserStore
from audit.verify import verify

INTACT, TAMPERED, UNCHECKABLE, REFUSED = 0, 2, 3, 4
Answer = tuple[int, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    code: int
    answer: dict[str, Any]
    try:
        code, answer = args.run(read_settings(), args)
    except (RefusedError, EventError, AuditConfigurationError) as exc:
        code, answer = REFUSED, {"error": str(exc)}
    except (AuditError, OSError) as exc:
        code, answer = UNCHECKABLE, {"error": str(exc)}
    if args.json:
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    else:
        _show(answer)
    return code


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    parser = argparse.ArgumentParser(
        prog="trivium-audit",
        description="Set up, verify, search: the encrypted, tamper-evident audit log.",
        epilog="Exit codes: 0 done or intact, 2 tampered, 3 could not check or not "
        "available, 4 refused. Settings come from TRIVIUM_AUDIT_* variables.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = _command(commands, "init", _init, "create key files and tables")
    init.add_argument(
        "--if-missing", action="store_true", help="keep key files that exist"
    )
    _command(commands, "verify", _verify, "check every record; needs no keys")
    _command(commands, "replay", _replay, "copy the local journal into the database")
    seal = _command(commands, "seal", _seal, "sign a checkpoint and anchor it")
    seal.add_argument(
        "--follow", action="store_true", help="once a second until stopped"
    )
    _search_options(_command(commands, "search", _search, "find and open records"))
    users = commands.add_parser("user", help="logins of the auditors' console")
    verbs = users.add_subparsers(required=True, metavar="VERB")
    add = _command(verbs, "add", _user_add, "create a login; reads the password")
    add.add_argument("name", help="2 to 64 of a-z 0-9 . _ -")
    add.add_argument("--role", choices=[role.value for role in Role], required=True)
    add.add_argument(
        "--generate", action="store_true", help="make up the password and print it"
    )
    _command(verbs, "list", _user_list, "show all logins")
    disable = _command(verbs, "disable", _user_disable, "close a login")
    disable.add_argument("name")
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    command.add_argument("--json", action="store_true", help="answer as one JSON line")
    command.set_defaults(run=run)
    return command


def _search_options(command: argparse.ArgumentParser) -> None:
    pair: dict[str, Any] = {"nargs": 2, "metavar": ("SYSTEM", "VALUE")}
    command.add_argument("--patient", **pair, help="whose data was touched")
    command.add_argument("--user", **pair, help="who acted")
    command.add_argument("--since", type=datetime.fromisoformat, help="ISO 8601, zone")
    command.add_argument("--until", type=datetime.fromisoformat, help="ISO 8601, zone")
    command.add_argument("--type", choices=[t.value for t in EventType], metavar="TYPE")
    command.add_argument("--outcome", choices=[o.value for o in Outcome])
    command.add_argument("--model", metavar="SHA256", help="digest of the model")
    command.add_argument("--limit", type=int, default=100, help="records (100)")
    command.add_argument("--after", help="the next mark of the page before")


def _init(settings: AuditSettings, args: argparse.Namespace) -> Answer:
    return INTACT, {"created": initialise(settings, args.if_missing)}


def _verify(settings: AuditSettings, _args: argparse.Namespace) -> Answer:
    report = verify(settings)
    return INTACT if report.verified else TAMPERED, report.to_json()


def _seal(settings: AuditSettings, args: argparse.Namespace) -> Answer:
    stop = threading.Event()
    with only_sealer(settings) as sealer:
        if args.follow:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            return INTACT, {"rounds": sealer.follow(stop)}
        checkpoint = sealer.seal()
    return INTACT, {"tree_size": checkpoint.tree_size, "root": checkpoint.root.hex()}


def _replay(settings: AuditSettings, _args: argparse.Namespace) -> Answer:
    log = AuditLog.open(settings, StreamKind.CLI)
    try:
        reports = log.replay()
    finally:
        log.close()
    return INTACT, {"replayed": [orjson.loads(orjson.dumps(r)) for r in reports]}


def _search(settings: AuditSettings, args: argparse.Namespace) -> Answer:
    query = AuditQuery(
        patient=Subject(*args.patient) if args.patient else None,
        user=Identifier(*args.user) if args.user else None,
        since=args.since,
        until=args.until,
        event_type=EventType(args.type) if args.type else None,
        outcome=Outcome(args.outcome) if args.outcome else None,
        model_sha256=args.model,
        limit=args.limit,
        after=args.after,
    )
    log = AuditLog.open(settings, StreamKind.CLI)
    try:
        return INTACT, search(settings, query, log=log, reader=_caller()).to_json()
    finally:
        log.close()


def _user_add(settings: AuditSettings, args: argparse.Namespace) -> Answer:
    generated = secrets.token_urlsafe(18) if args.generate else None
    password = generated or _read_password()
    with open_key_store(settings) as store:
        secret = UserStore(store).add(args.name, Role(args.role), password)
    _record_change(settings, {"user": args.name, "added": args.role})
    answer = {"name": args.name, "role": args.role, "totp_secret": secret}
    return INTACT, answer | ({"password": generated} if generated else {})


def _user_list(settings: AuditSettings, _args: argparse.Namespace) -> Answer:
    with open_key_store(settings) as store:
        users = UserStore(store).list()
    return INTACT, {"users": [orjson.loads(orjson.dumps(user)) for user in users]}


def _user_disable(settings: AuditSettings, args: argparse.Namespace) -> Answer:
    with open_key_store(settings) as store:
        UserStore(store).disable(args.name)
    _record_change(settings, {"user": args.name, "disabled": True})
    return INTACT, {"disabled": args.name}


def _caller() -> Agent:
    return Agent("human", "urn:trivium:host-account", getpass.getuser())


def _record_change(settings: AuditSettings, evidence: dict[str, Any]) -> None:
    """A change of privileges is itself an event."""
    log = AuditLog.open(settings, StreamKind.CLI)
    try:
        log.append(
            AuditEvent(
                EventType.PRIVILEGE_CHANGE,
                Action.UPDATE,
                Outcome.OK,
                Phase.SINGLE,
                agent=_caller(),
                subject=None,
                purpose="HSYSADMIN",
                correlation_id=new_correlation_id(),
                evidence=evidence,
                lawful_basis=LawfulBasis.LEGAL_OBLIGATION,
            )
        )
    finally:
        log.close()


def _read_password() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\n")


def _show(answer: dict[str, Any]) -> None:
    text = orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode()
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
