"""Options that several text commands share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Parser = argparse.ArgumentParser
Arguments = argparse.Namespace

BUILD = Path("build/language")


def add_data(parser: Parser) -> None:
    """``--data``."""
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with texts/ and pubmedqa/"
    )


def add_bert(parser: Parser) -> None:
    """``--bert``: a folder on this disk."""
    parser.add_argument(
        "--bert",
        type=Path,
        default=BUILD / "bert",
        help="BERT folder on this disk, made here or published (BioBERT); none is "
        "downloaded",
    )


def add_running(parser: Parser) -> None:
    """Seed, threads and how to print."""
    parser.add_argument("--seed", type=int, default=7, help="of weights and batches")
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_json(parser)


def add_json(parser: Parser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def use_threads(arguments: Arguments) -> None:
    """Set torch's threads."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)


def shown(arguments: Arguments, data: Any, lines: list[str]) -> int:
    """Print JSON or lines; the exit code of a command that did its work."""
    text = json.dumps(data, indent=1) if arguments.json else "\n".join(lines)
    print(text)
    return 0
