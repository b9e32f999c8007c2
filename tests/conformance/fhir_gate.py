"""Three independent checks of a FHIR R4 resource that we emit, and one of our own.

1. fhir.resources R4B (pydantic models).
2. medplum's validator with the R4 4.0.1 definitions (node): another model of another
   release.
3. Required bindings, expanded from the same definitions: neither of the two looks at
   codes.
4. Id syntax and empty lists, objects and texts, which both let pass.

    npm install --prefix build/fhir-validator     # done by :func:`validator_folder`
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import services

HERE = Path(__file__).resolve().parent / "fhir_validator"
INSTALLED = HERE.parents[2] / "build" / "fhir-validator"
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What one resource was found to break; all empty means valid."""

    modelled: tuple[str, ...] = ()
    structure: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether nobody found anything."""
        return not (self.modelled or self.structure or self.bindings or self.own)


@functools.cache
def validator_folder() -> Path:
    """Where the node packages are, installed there when they can be had.

    Skips, by name, on a machine without node or registry; fails there when CI=true.
    """
    services.binary("node")
    if not (INSTALLED / "node_modules" / "@medplum" / "definitions").exists():
        npm = services.binary("npm")
        INSTALLED.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "package.json", INSTALLED)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=INSTALLED, capture_output=True, timeout=300, check=False
        )
        if done.returncode:
            message = "npm cannot install medplum's FHIR validator: it is not asked"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
    return INSTALLED


def check(resources: Sequence[Resource]) -> list[Checked]:
    """Every check on every resource, in order; one run of node for all."""
    answer = by_node(resources)
    return [
        Checked(
            modelled(resource),
            tuple(found["errors"]),
            tuple(found["bindings"]),
            tuple(own_rules(resource)),
        )
        for resource, found in zip(resources, answer["resources"], strict=True)
    ]


def by_node(resources: Sequence[Resource]) -> dict[str, Any]:
    """medplum's findings and those of the required bindings."""
    command = [services.binary("node"), HERE / "validate.cjs", validator_folder()]
    done = subprocess.run(
        command, input=json.dumps(resources), capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def modelled(resource: Resource) -> tuple[str, ...]:
    """What the R4B model says."""
    name = str(resource.get("resourceType", ""))
    try:
        module = importlib.import_module(f"fhir.resources.R4B.{name.lower()}")
        getattr(module, name).model_validate(resource)
    except (ImportError, AttributeError, KeyError) as error:
        return (type(error).__name__,)
    except ValueError as error:
        return tuple(line for line in str(error).splitlines() if line[:1].isalpha())
    return ()


def own_rules(resource: Resource) -> Iterator[str]:
    """Ids that are none, and anything empty (FHIR R4, JSON: no empty values)."""
    name = resource.get("id")
    if name is not None and not (isinstance(name, str) and _ID.fullmatch(name)):
        yield "id"
    yield from _empty(resource, str(resource.get("resourceType")))


def _empty(node: object, at: str) -> Iterator[str]:
    if node is None or node == "" or node == [] or node == {}:
        yield f"{at} is empty"
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _empty(value, f"{at}.{key}")
    elif isinstance(node, list):
        for item in node:
            yield from _empty(item, at)
