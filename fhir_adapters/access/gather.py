"""Collect one patient's evidence in parallel, under one deadline.

    gather = Gather(context, pool)                     # starts at once
    outcome = gather.run(time.monotonic() + 0.35)
    if isinstance(outcome, Pending):                   # the work goes on in the pool
        gather.add_done_callback(later)                # called once, in a pool thread

Each step is one task, and no task waits for another: the image step starts when the
patient and the imaging step are through. A bounded pool that many gatherings share can
therefore be slow, but never stuck. All network work ends by itself at the policy's
``max_seconds``, whoever still waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial

from fhir_adapters.access.chest_image import fetch_image
from fhir_adapters.access.gather_steps import failure_of, fetch_list, fetch_patient
from fhir_adapters.access.gather_types import (
    KEYS,
    STEPS,
    Decode,
    Failure,
    GatherContext,
    Gathered,
    GatherPolicy,
    Pending,
    StepResult,
)
from fhir_adapters.dicom.decode_process import decode_in_child
from fhir_adapters.errors import AdapterError
from fhir_adapters.patient_record import Modality
from fhir_adapters.resources.elements import resource_type

__all__ = [
    "KEYS",
    "STEPS",
    "Failure",
    "Gather",
    "GatherContext",
    "GatherPolicy",
    "Gathered",
    "Pending",
]

_MODALITY_OF = {
    "observations": Modality.VALUES,
    "reports": Modality.TEXT,
    "documents": Modality.TEXT,
    "imaging": Modality.IMAGE,
}
_IMAGE_NEEDS = ("patient", "imaging")


class Gather:
    """One gathering; it starts when it is constructed.

    Args:
        context: What to gather and through which doors.
        pool: Where the steps run; shared and bounded.
        decode: Decoder of one DICOM file; by default the limited child process.
    """

    def __init__(
        self,
        context: GatherContext,
        pool: Executor,
        *,
        decode: Decode = decode_in_child,
    ) -> None:
        self._context = context
        self._pool = pool
        self._decode = decode
        self._ends_at = time.monotonic() + context.policy.max_seconds
        self._changed = threading.Condition()
        self._results: dict[str, StepResult] = {}
        self._bug: BaseException | None = None
        self._image_started = False
        self._callbacks: list[Callable[[Gather], None]] = []
        self._submit("patient", partial(fetch_patient, context, self._ends_at))
        for step in STEPS[1:-1]:
            self._submit(step, partial(fetch_list, step, context, self._ends_at))

    def run(self, deadline: float) -> Gathered | Pending:
        """Wait until everything is there or ``deadline`` has come.

        May be called again, from any thread, to go on waiting.

        Args:
            deadline: ``time.monotonic()`` seconds; one in the past does not wait.

        Raises:
            BaseException: Whatever a step raised that is no AdapterError: a bug is
                not a missing modality.
        """
        with self._changed:
            self._changed.wait_for(
                self._is_done, timeout=max(deadline - time.monotonic(), 0.0)
            )
            if self._bug is not None:
                raise self._bug
            if not self._is_done():
                waiting = (step for step in STEPS if step not in self._results)
                return Pending(tuple(waiting))
            return self._gathered()

    def add_done_callback(self, callback: Callable[[Gather], None]) -> None:
        """Call ``callback(self)`` once when done, at once if that is already so.

        It runs in the thread that finished last; ``run(0)`` in it does not wait.
        """
        with self._changed:
            if not self._is_done():
                self._callbacks.append(callback)
                return
        callback(self)

    def _is_done(self) -> bool:
        return len(self._results) == len(STEPS)

    def _submit(self, step: str, task: Callable[[], StepResult]) -> None:
        try:
            future = self._pool.submit(task)
        except RuntimeError:
            # The pool is shutting down with the process: nothing more will come.
            self._land(step, StepResult(failures=[Failure(step, "shutting_down")]))
            return
        future.add_done_callback(partial(self._settle, step))

    def _settle(self, step: str, future: Future[StepResult]) -> None:
        """Turn what a task came to into the result of its step."""
        if future.cancelled():
            self._land(step, StepResult(failures=[Failure(step, "shutting_down")]))
            return
        error = future.exception()
        if error is None:
            self._land(step, future.result())
        elif isinstance(error, AdapterError):
            self._land(step, StepResult(failures=[failure_of(step, error)]))
        else:
            self._land(step, StepResult(failures=[Failure(step, "bug")]), error)

    def _land(
        self, step: str, result: StepResult, bug: BaseException | None = None
    ) -> None:
        with self._changed:
            self._bug = self._bug or bug
            self._results[step] = result
            start_image = not self._image_started and all(
                name in self._results for name in self._image_needs()
            )
            self._image_started = self._image_started or start_image
            done = self._is_done()
            callbacks, self._callbacks = (
                (self._callbacks, []) if done else ([], self._callbacks)
            )
            self._changed.notify_all()
        if start_image:
            self._start_image()
        for callback in callbacks:
            callback(self)

    def _image_needs(self) -> tuple[str, ...]:
        """Reports count only where FHIR shows no study: they name the accession."""
        imaging = self._results.get("imaging")
        if imaging is None or any(
            resource_type(item.resource) == "ImagingStudy" for item in imaging.received
        ):
            return _IMAGE_NEEDS
        return (*_IMAGE_NEEDS, "reports")

    def _start_image(self) -> None:
        patient = self._results["patient"].patient
        studies = list(self._results["imaging"].received)
        if "reports" in self._results:
            studies += self._results["reports"].received
        if patient is None:
            # Nobody to match the image with; the patient's failure says why.
            self._land("image", StepResult())
            return
        self._submit(
            "image",
            partial(
                fetch_image,
                self._context,
                patient,
                studies,
                self._ends_at,
                self._decode,
            ),
        )

    def _gathered(self) -> Gathered:
        results = [self._results[step] for step in STEPS]
        failures = tuple(f for result in results for f in result.failures)
        unavailable: dict[Modality, str] = {}
        for failure in failures:
            modality = _MODALITY_OF.get(failure.step)
            if modality is not None and not failure.partial:
                unavailable.setdefault(modality, failure.reason)
        return Gathered(
            patient=self._results["patient"].patient,
            received=tuple(item for result in results for item in result.received),
            images=tuple(image for result in results for image in result.images),
            missing=tuple(key for result in results for key in result.missing),
            failures=failures,
            unavailable=unavailable,
        )
