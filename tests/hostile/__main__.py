"""Attack the real clients and print what it cost them.

    python -m tests.hostile [--json] [--markdown FILE] [--only NAME]

Starts the hostile server, runs each call in a process of its own and prints seconds,
peak memory above the idle process, and the typed result. Exit codes: 0 every call ended
typed and within its bounds, 1 one did not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fhir_adapters.http_server import serving
from tests.hostile.client import SECONDS
from tests.hostile.server import answer, empty_instances, empty_objects, gzip_bomb

ROOT = Path(__file__).resolve().parents[2]
# A deadline and the time that a busy machine takes to notice it.
MAX_SECONDS = SECONDS + 3.0
# Twice the largest answer that the door lets in, for the bytes and a copy of them.
MAX_MEMORY_MB = 128.0

# (call, attack, what it does, result expected)
CASES = (
    ("read", "drip", "one byte now and then", "UpstreamTimeoutError"),
    ("read", "head_drip", "a header that never ends", "UpstreamTimeoutError"),
    ("search", "drip", "the same under a search", "UpstreamTimeoutError"),
    ("search", "endless", "a `next` that never ends", "SearchPages"),
    ("search", "looped", "a `next` to itself, references in a ring", "SearchPages"),
    ("chart", "looped", "the same under a whole gathering", "Gathered"),
    ("read", "redirect", "redirect to 169.254.169.254", "OutboundRefusedError"),
    ("read", "gzip", "200 MB in 200 kB of gzip", "OutboundRefusedError"),
    ("read", "silent_gzip", "the same, not announced", "MalformedResourceError"),
    ("read", "flood", "200 MB in chunks, no length", "OutboundRefusedError"),
    ("search", "values", "5,000,000 empty objects in 15 MB", "ResourceTooLargeError"),
    ("search", "deep", "1,000,000 brackets deep", "ResourceTooLargeError"),
    ("read", "wrong", "another patient", "MalformedResourceError"),
    ("chart", "wrong", "another patient's chart", "Gathered"),
    ("read", "dead", "hangs up", "UpstreamError"),
    ("metadata", "metadata", "DICOM JSON of 1,000,000", "ResourceTooLargeError"),
    ("metadata", "gzip", "gzip bomb from the archive", "OutboundRefusedError"),
    ("instance", "parts", "a multipart of 100,000 parts", "ResourceTooLargeError"),
    ("instance", "flood", "200 MB in chunks", "OutboundRefusedError"),
    ("instance", "drip", "one byte now and then", "UpstreamTimeoutError"),
    ("instance", "redirect", "redirect to 169.254.169.254", "OutboundRefusedError"),
)


def attack(call: str, name: str, origin: str) -> dict[str, Any]:
    """One call in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.client", call, name, origin]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        # The last line names the exception that our error tree does not know.
        last = done.stderr.strip().rpartition("\n")[2]
        return {"seconds": 0.0, "memory_mb": 0.0, "result": "CRASH", "reason": last}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(only: str = "", quiet: bool = False) -> list[dict[str, Any]]:
    """Every case, with ``ok`` and the bounds that it was held to."""
    # Made beforehand: what the server takes to make them is not the client's time.
    for make in (gzip_bomb, empty_objects, empty_instances):
        make()
    rows = []
    with serving(answer) as server:
        for call, name, words, expected in CASES:
            if only not in ("", name, f"{call}:{name}"):
                continue
            found = attack(call, name, server.origin)
            good = (
                found["result"] == expected
                and bool(found["reason"])
                and found["seconds"] <= MAX_SECONDS
                and found["memory_mb"] <= MAX_MEMORY_MB
            )
            rows.append({"call": call, "attack": name, "words": words, **found})
            rows[-1]["expected"], rows[-1]["ok"] = expected, good
            if not quiet:
                print(line(rows[-1]), file=sys.stderr)
    return rows


def line(row: dict[str, Any]) -> str:
    """One row for a terminal."""
    return (
        f"{'ok ' if row['ok'] else 'BAD'} {row['call']:<9}{row['attack']:<12}"
        f"{row['seconds']:>6.2f} s {row['memory_mb']:>7.1f} MB  "
        f"{row['result']} {row['reason']}"
    )


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown document."""
    lines = [
        "# A hostile server, and what it costs us",
        "",
        "Written by `python -m tests.hostile --markdown FILE`. Each call is the real "
        "client in a process of its own, with a deadline of "
        f"{SECONDS:.0f} s and the door's cap of 64 MB an answer. Memory is the peak "
        "above the idle process. Bounds: "
        f"{MAX_SECONDS:.0f} s and {MAX_MEMORY_MB:.0f} MB.",
        "",
        "| call | the server | seconds | peak MB | ends in | reason | held |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        held = "yes" if row["ok"] else "**no**"
        lines.append(
            f"| {row['call']} | {row['words']} | {row['seconds']:.2f} | "
            f"{row['memory_mb']:.1f} | `{row['result']}` | `{row['reason']}` | {held} |"
        )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and say by the exit code whether every bound held."""
    parser = argparse.ArgumentParser(
        "python -m tests.hostile",
        description="Attack the real FHIR and DICOMweb clients; print what it costs.",
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the page there"
    )
    parser.add_argument(
        "--only", default="", metavar="NAME", help="one attack, or CALL:NAME"
    )
    chosen = parser.parse_args(arguments)
    rows = run(chosen.only)
    if chosen.markdown:
        chosen.markdown.write_text(page(rows), encoding="utf-8")
    if chosen.json:
        print(json.dumps({"max_seconds": MAX_SECONDS, "cases": rows}, indent=2))
    return 0 if rows and all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
