"""The main job with real processes: first card, ready card, and what web maps."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.benchmarks.measure import entry, median, show
from tests.end_to_end.plugin import Plugin, state

PATIENTS = 12
REPEATS = 20
HEAVY = ("torch", "timm", "transformers")


def run() -> list[dict[str, Any]]:
    """One plugin, cold evidence for each patient, then the same evidence again."""
    folder = Path(tempfile.mkdtemp(prefix="bench-hook-"))
    plugin = Plugin.at(folder)
    try:
        patients = plugin.patients(PATIENTS)
        plugin.start("ehr", "web", "worker")
        plugin.ready(patients[0])
        first, ready = [], []
        for patient in patients[1:]:
            began = time.perf_counter()
            answer = plugin.hook(patient)
            first.append(answer.elapsed_ms)
            if state(answer) == "not-ready":
                plugin.ready(patient)
            ready.append((time.perf_counter() - began) * 1000)
        again = [plugin.hook(patients[1]).elapsed_ms for _ in range(REPEATS)]
        return [
            entry("hook.first_card_ms", median(first), "ms", "bench_hook"),
            entry("hook.ready_card_ms", median(ready), "ms", "bench_hook"),
            entry("hook.known_evidence_ms", median(again), "ms", "bench_hook"),
            entry("hook.discovery_ms", discovery(plugin), "ms", "bench_hook"),
            _torch_entry(plugin),
        ]
    finally:
        plugin.stop()
        shutil.rmtree(folder, ignore_errors=True)


def discovery(plugin: Plugin) -> float:
    """Median time of GET /cds-services over one connection."""
    times = []
    with httpx.Client(base_url=plugin.stage.public_url, trust_env=False) as client:
        for _ in range(REPEATS):
            began = time.perf_counter()
            client.get("/cds-services").raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
    return median(times)


def _torch_entry(plugin: Plugin) -> dict[str, Any]:
    leader = psutil.Process(plugin.processes["web"].pid)
    mapped = "".join(
        Path(f"/proc/{p.pid}/maps").read_text()
        for p in (leader, *leader.children(recursive=True))
    )
    count = sum(f"/{name}/" in mapped for name in HEAVY)
    name = "hook.web_memory_has_torch"
    return entry(name, count, "libraries", "bench_hook", bar="== 0", holds=count == 0)


if __name__ == "__main__":
    show(run, __doc__)
