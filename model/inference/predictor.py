"""From one record to a calibrated prediction and its explanation.

A predictor is immutable after loading and safe for threads. Nothing is imputed: what is
missing is masked, named in ``states``, and calibrated for as its own presence pattern.
On CUDA the encoders run in bfloat16, all else in float32, so that a number does not
depend on the machine by more than their rounding (parity bound: 0.02 on the logit).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from fhir_adapters.patient_record import Modality, PatientRecord
from model.errors import (
    ConfigurationError,
    DeviceMemoryError,
    InferenceError,
    UnknownLabelError,
)
from model.explain.asked import Asked
from model.explain.attribution import Question
from model.explain.explanation_of import explanation_of
from model.inference.abstention import (
    AbstentionPolicy,
    abstentions_before,
    abstentions_outside,
    promoted,
    warnings_after,
    warnings_before,
)
from model.inference.calibration import pattern_name
from model.inference.case import Case, artificial_record, prepare
from model.inference.checks import ambiguous_labels, checks_of, each_alone
from model.inference.runtime import choose_device, configure_threads
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.jobs.explanation import Explanation
from model.jobs.prediction import Abstention, LabelEstimate, ModelIdentity, Prediction
from model.network.fusion import Tokens
from model.network.inputs import TriModalInputs

PRECISIONS = ("auto", "fp32", "bf16")


class Predictor:
    """One checkpoint on one device."""

    def __init__(
        self,
        checkpoint_folder: Path | str,
        device: str = "auto",
        *,
        threads: int = 0,
        precision: str = "auto",
        policy: AbstentionPolicy = AbstentionPolicy(),
        thorough: bool = True,
    ) -> None:
        """Verify and load a checkpoint.

        Args:
            checkpoint_folder: As written by ``save_checkpoint``.
            device: "auto", "cpu" or "cuda".
            threads: Torch threads of this process, 0 for torch's own choice.
            precision: Of the encoders: "fp32", "bf16", or "auto" (bf16 on CUDA).
            policy: When to abstain.
            thorough: Whole explanations or brief ones, see ``explanation_of``.

        Raises:
            CheckpointError: the folder cannot be used.
            DeviceUnavailableError: CUDA was asked for and is not there.
            ConfigurationError: an unknown device or precision.
        """
        if precision not in PRECISIONS:
            raise ConfigurationError(f"precision must be one of {PRECISIONS}")
        self._device = choose_device(device)
        configure_threads(threads)
        self._thorough = thorough
        self._loaded = load_checkpoint(checkpoint_folder, self._device)
        self._loaded.model.requires_grad_(False)  # only tokens need gradients
        on_cuda = self._device.type == "cuda"
        self._bf16 = precision == "bf16" or (precision == "auto" and on_cuda)
        self._policy = policy

    @classmethod
    def of(cls, loaded: LoadedCheckpoint, policy: AbstentionPolicy) -> Predictor:
        """A predictor on a checkpoint that is loaded already, in float32."""
        made = cls.__new__(cls)
        made._device = next(loaded.model.parameters()).device
        made._thorough = True
        made._loaded = loaded
        made._bf16 = False
        made._policy = policy
        loaded.model.requires_grad_(False)
        return made

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and digest of the model."""
        return self._loaded.identity

    @property
    def model_sha256(self) -> str:
        """Digest of the model."""
        return self._loaded.identity.sha256

    @property
    def device(self) -> str:
        """Where and how precisely it computes, for the result and the audit record."""
        name = self._device.type
        if name == "cuda":
            name = f"cuda {torch.cuda.get_device_name(self._device)}"
        return f"{name} {'bf16' if self._bf16 else 'fp32'}"[:64]

    @property
    def labels(self) -> tuple[str, ...]:
        """The label codes, in the order of the estimates."""
        return self._loaded.config.labels

    @property
    def image_size(self) -> int:
        """Side of the square that films are read at, in pixels."""
        return self._loaded.vocabulary.image_size

    def predict(self, record: PatientRecord) -> Prediction:
        """Estimate every label, or abstain.

        Raises:
            InferenceError: the model gave no number, or the device failed.
        """
        return self._predict(record)[0]

    def explain(self, record: PatientRecord, label: str | None = None) -> Explanation:
        """Explain one label's estimate; by default that of :func:`leading_estimate`.

        Raises:
            UnknownLabelError: the model has no such label.
            InferenceError: there is no estimate to explain, or computing it failed.
        """
        return self._explain(self.ask(record, label))

    def ask(self, record: PatientRecord, label: str | None = None) -> Asked:
        """Predict, and keep everything that an explanation starts from.

        Raises:
            UnknownLabelError: the model has no such label.
            InferenceError: there is no estimate to explain, or computing it failed.
        """
        if label is not None and label not in self.labels:
            raise UnknownLabelError("the model has no such label")
        prediction, case, tokens = self._predict(record)
        if tokens is None or not prediction.estimates:
            raise InferenceError("an abstention has no estimate to explain")
        by_label = {e.label: e for e in prediction.estimates}
        estimate = by_label[label] if label else leading_estimate(prediction)
        return self._asked(case, tokens, prediction, estimate)

    def assess(self, record: PatientRecord) -> tuple[Prediction, Explanation | None]:
        """Predict, and explain the leading estimate unless the model abstains.

        Raises:
            InferenceError: as :meth:`predict` and :meth:`explain`.
        """
        prediction, case, tokens = self._predict(record)
        if tokens is None or not prediction.estimates:
            return prediction, None
        estimate = leading_estimate(prediction)
        return prediction, self._explain(
            self._asked(case, tokens, prediction, estimate)
        )

    def warm_up(self) -> None:
        """Run an artificial record once: no patient waits for first-time work."""
        self._predict(artificial_record(self._loaded.vocabulary))

    def _predict(self, record: PatientRecord) -> tuple[Prediction, Case, Tokens | None]:
        """The prediction, and the tokens when the model ran."""
        loaded, policy = self._loaded, self._policy
        case = prepare(record, loaded.vocabulary, policy, loaded.calibration.films)
        case = case.to(self._device)
        refused = abstentions_before(case.record, case.states, policy)
        if refused:
            return self._prediction(case, (), refused, ()), case, None
        with _device_errors(), torch.inference_mode():
            tokens = self._encode(case.inputs)
            output = loaded.model.fuse(tokens, case.inputs.present)
            logits = output.logits[0].double().tolist()  # (C,)
            alone = each_alone(loaded.model, loaded.calibration, tokens, case.presence)
            outside = loaded.calibration.outside(tokens)
            ratios = {name: float(ratio[0]) for name, ratio in outside.items()}
        if not all(map(math.isfinite, logits)):
            raise InferenceError("the model gave no finite number")
        estimates = self._estimates(case.presence, logits)
        ambiguous = ambiguous_labels(loaded.calibration, case.presence, estimates)
        warned = (
            *warnings_before(case.record, policy),
            *warnings_after(alone, ambiguous, policy),
        )
        refused, warnings = promoted(warned, policy)
        refused = (*abstentions_outside(ratios, policy), *refused)
        shown = () if refused else estimates
        return self._prediction(case, shown, refused, warnings), case, tokens

    def _encode(self, inputs: TriModalInputs) -> Tokens:
        """Encoder tokens in float32, whatever the encoders computed in."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            tokens = self._loaded.model.encode(inputs)
        return tokens.with_content(*(x.float() for x in tokens.content()))

    def _estimates(
        self, presence: tuple[bool, bool, bool], logits: list[float]
    ) -> tuple[LabelEstimate, ...]:
        estimates = []
        for spec, raw in zip(self._loaded.labels, logits, strict=True):
            platt = self._loaded.calibration.of(presence, spec.label)
            limits = self._loaded.calibration.conformal_of(presence, spec.label)
            estimates.append(
                LabelEstimate(
                    label=spec.label,
                    display=spec.display,
                    logit=raw,
                    probability=platt.probability(raw),
                    # The stated threshold holds for full records only.
                    threshold=(
                        spec.threshold
                        if all(presence) or limits is None
                        else limits.positive_from
                    ),
                )
            )
        return tuple(estimates)

    def _prediction(
        self,
        case: Case,
        estimates: tuple[LabelEstimate, ...],
        abstentions: tuple[Abstention, ...],
        warnings: tuple[Abstention, ...],
    ) -> Prediction:
        pattern = pattern_name(case.presence)
        return Prediction(
            prediction_id=uuid.uuid4().hex,
            made_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            model=self.identity,
            device=self.device,
            presence={m.value: p for m, p in zip(Modality, case.presence)},
            states=case.state_words(),
            calibration=f"{self._loaded.calibration.version}:{pattern}",
            estimates=estimates,
            abstentions=abstentions,
            inputs=case.references(),
            evidence_sha256=case.received.evidence_sha256(),
            warnings=warnings,
            checks=checks_of(case, self._loaded.calibration, (*abstentions, *warnings)),
        )

    def _asked(
        self,
        case: Case,
        tokens: Tokens,
        prediction: Prediction,
        estimate: LabelEstimate,
    ) -> Asked:
        # A clone made outside inference mode is an ordinary tensor again.
        plain = Tokens(*(x.clone() for x in (*tokens.content(), *tokens.masks())))
        question = Question(
            model=self._loaded.model,
            calibration=self._loaded.calibration,
            inputs=case.inputs,
            tokens=plain,
            present=case.inputs.present,
            label=estimate.label,
            column=self.labels.index(estimate.label),
        )
        return Asked(prediction, estimate, case.record, question)

    def _explain(self, asked: Asked) -> Explanation:
        with _device_errors():
            return explanation_of(
                asked, self._loaded.vocabulary, thorough=self._thorough
            )


def leading_estimate(prediction: Prediction) -> LabelEstimate:
    """The estimate that lies highest above its decision threshold."""
    return max(prediction.estimates, key=lambda e: e.probability - e.threshold)


@contextmanager
def _device_errors() -> Iterator[None]:
    """Name a device that ran out of memory; its text would tell nothing more."""
    try:
        yield
    except torch.OutOfMemoryError as exc:
        raise DeviceMemoryError("the device ran out of memory") from exc
