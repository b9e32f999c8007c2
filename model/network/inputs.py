"""What the network reads: one batch of records as tensors, with its evidence ids.

B records, V views of H x W pixels, Nt word pieces, Ns measurements, K bins. Every
modality may be missing from any record: ``present`` says so, and the content of an
absent modality is never read by the fusion module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

MODALITIES = ("image", "text", "values")
IMAGE, TEXT, VALUES = range(3)
FLAGS = ("", "LL", "L", "N", "H", "HH")
KINDS = ("lab", "vital", "demo", "med", "sensor")
ABSENT = len(FLAGS)  # the flag of an expected item that was not measured
VIEW_KINDS = ("frontal", "lateral", "other", "prior", "slice")
SECTION_KINDS = (
    *("", "complaint", "history", "background", "family", "medication", "allergy"),
    *("examination", "measurement", "imaging", "assessment", "plan"),
)

_TEXT_FIELDS = (
    *("input_ids", "attn", "word", "word_start", "word_end", "note"),
    *("section", "window"),
)


@dataclass(frozen=True, slots=True)
class TriModalInputs:
    """A batch; all tensors share B as their first axis.

    ``word`` numbers the words of a record over all its notes (-1 for special tokens
    and padding). ``word_start`` and ``word_end`` are the characters of the *word* (not
    the piece) in the original text of note ``note`` (an index into ``note_ids``).
    ``box`` is (left, top, width, height) of the letterboxed square on the native image
    as fractions of its width and height: negative and above 1 where padding was added.

    The last five tensors may be left out: every film is then the current frontal one,
    every note one window without sections.
    """

    pixels: Tensor  # (B, V, 1, H, W) float, standardised
    pixel_mask: Tensor  # (B, V) bool, view exists
    box: Tensor  # (B, V, 4) float
    input_ids: Tensor  # (B, Nt) long
    attn: Tensor  # (B, Nt) bool, token exists
    word: Tensor  # (B, Nt) long
    word_start: Tensor  # (B, Nt) long
    word_end: Tensor  # (B, Nt) long
    note: Tensor  # (B, Nt) long
    code: Tensor  # (B, Ns) long, row of the vocabulary's code list
    value: Tensor  # (B, Ns, K) float, piecewise-linear encoding
    dt_hours: Tensor  # (B, Ns) float, age at the cutoff
    flag: Tensor  # (B, Ns) long, index into FLAGS
    kind: Tensor  # (B, Ns) long, index into KINDS
    obs_mask: Tensor  # (B, Ns) bool, measurement exists
    present: Tensor  # (B, 3) bool, MODALITIES order
    image_ids: tuple[tuple[str, ...], ...]  # per record, one reference per view
    note_ids: tuple[tuple[str, ...], ...]  # per record, one reference per note
    value_ids: tuple[tuple[str, ...], ...]  # per record, one reference per measurement
    view_kind: Tensor = None  # type: ignore[assignment]  # (B, V) long, VIEW_KINDS
    view_dt: Tensor = None  # type: ignore[assignment]  # (B, V) float, days older
    view_place: Tensor = None  # type: ignore[assignment]  # (B, V) float, 0 to 1
    section: Tensor = None  # type: ignore[assignment]  # (B, Nt) long, SECTION_KINDS
    window: Tensor = None  # type: ignore[assignment]  # (B, Nt) long, never falling

    def __post_init__(self) -> None:
        for name, like, kind in (
            ("view_kind", self.pixel_mask, torch.long),
            ("view_dt", self.pixel_mask, torch.float32),
            ("view_place", self.pixel_mask, torch.float32),
            ("section", self.input_ids, torch.long),
            ("window", self.input_ids, torch.long),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, torch.zeros_like(like, dtype=kind))

    def __len__(self) -> int:
        """Number of records B."""
        return int(self.present.shape[0])

    def select(self, rows: Sequence[int] | Tensor) -> TriModalInputs:
        """The given records, in that order, trimmed to their own longest note."""
        index = torch.as_tensor(rows, dtype=torch.long)
        kept = index.tolist()
        part: dict[str, object] = {}
        for item in fields(self):
            whole = getattr(self, item.name)
            if isinstance(whole, Tensor):
                part[item.name] = whole[index]
            else:
                part[item.name] = tuple(whole[row] for row in kept)
        return TriModalInputs(**part).trimmed()  # type: ignore[arg-type]

    def trimmed(self) -> TriModalInputs:
        """Without the columns that are padding for every record (one stays)."""
        words = max(1, int(self.attn.sum(1).max()))
        items = max(1, int(self.obs_mask.sum(1).max()))
        changes: dict[str, Tensor] = {}
        for name in _TEXT_FIELDS:
            changes[name] = getattr(self, name)[:, :words]
        for name in ("code", "value", "dt_hours", "flag", "kind", "obs_mask"):
            changes[name] = getattr(self, name)[:, :items]
        return replace(self, **changes)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> TriModalInputs:
        """The same batch on another device."""
        moved = {
            item.name: getattr(self, item.name).to(device)
            for item in fields(self)
            if isinstance(getattr(self, item.name), Tensor)
        }
        return replace(self, **moved)
