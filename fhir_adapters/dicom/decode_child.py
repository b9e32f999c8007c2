"""The process that reads hostile images; :mod:`.decode_process` starts it.

It binds its own hands before the first file arrives, then serves one file at a time
from standard input to standard output until the input ends. What it may not do, and
which attack that ends:

- map more memory than its limit (RLIMIT_AS): decompression and tile bombs;
- compute longer than its allowance for a file (RLIMIT_CPU): endless loops in a codec;
- open any file or socket (RLIMIT_NOFILE): exfiltration after a codec was taken over;
- write a file or dump core (RLIMIT_FSIZE, RLIMIT_CORE): pixels and names on disk;
- start a process (RLIMIT_NPROC, where the user is not root).

Its environment holds no secret, because the parent gives it none. The functions marked
"no cover" bind the process that runs them, so only real children run them, under test.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import BinaryIO

from fhir_adapters.dicom.decode_wire import (
    MAX_HEADER_BYTES,
    PREFIX,
    answer_header,
    expected_of,
    frame,
)
from fhir_adapters.dicom.image import decode
from fhir_adapters.dicom.instance import MAX_FILE_BYTES
from fhir_adapters.dicom.transfer_syntax import load_plugins
from fhir_adapters.errors import ImageUnreadableError

# Standard input, output and error; whatever opens next fails.
_OPEN_FILES = 3
_LEAST_SECONDS = 2
_BYTES_A_SECOND = 500_000


def main(arguments: list[str]) -> int:  # pragma: no cover
    """Serve until the input ends.

    Args:
        arguments: Memory limit in bytes and CPU seconds for one file.

    Returns:
        0 at the end of input, 1 after a file that may have left the process unfit.
    """
    memory_bytes, cpu_seconds = (int(argument) for argument in arguments)
    load_plugins()
    limit_process(memory_bytes)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(frame({"ready": True}, 0))
    sink.flush()
    while True:
        prefix = source.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            return 0
        header_bytes, body_bytes = PREFIX.unpack(prefix)
        if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_FILE_BYTES:
            return 1
        allow_cpu(allowance(body_bytes, cpu_seconds))
        if not serve(source, sink, header_bytes, body_bytes):
            return 1


def limit_process(memory_bytes: int) -> None:  # pragma: no cover
    """Give up, for good, what decoding does not need."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def allowance(body_bytes: int, cpu_seconds: int) -> int:
    """CPU seconds for a file of this size, at most ``cpu_seconds``.

    A small file is a small film or a trap, and two seconds for each megabyte are many
    times what an honest film of the slowest codec takes.
    """
    return min(cpu_seconds, _LEAST_SECONDS + body_bytes // _BYTES_A_SECOND)


def allow_cpu(seconds: int) -> None:  # pragma: no cover
    """Move the CPU limit to ``seconds`` from now; past it the kernel ends us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + 1 + seconds, hard))


def serve(source: BinaryIO, sink: BinaryIO, header_bytes: int, body_bytes: int) -> bool:
    """Answer one request; False when this process should not serve another."""
    header = json.loads(source.read(header_bytes))
    try:
        decoded = decode(source.read(body_bytes), expected_of(header))
        body = decoded.pixels.astype("<f4", copy=False)
        sink.write(frame(answer_header(decoded), body.nbytes))
        sink.write(body.data)
        fit = True
    except ImageUnreadableError as error:
        sink.write(frame({"reason": error.reason}, 0))
        fit = True
    except MemoryError:
        # The heap may be in pieces: say so and make room for a fresh process.
        sink.write(frame({"reason": "decode_memory_limit"}, 0))
        fit = False
    sink.flush()
    return fit


if __name__ == "__main__":  # pragma: no cover - runs in the child
    # Straight out: no interpreter shutdown, which may want files that it cannot open.
    os._exit(main(sys.argv[1:]))
