"""MIMIC-CXR-JPG joined to MIMIC-IV: film, text and values of one admission.

A film and an admission belong together by patient and time: both data sets shift the
dates of a patient alike. The question is asked when the film was taken; values and
notes are those known then, and of the film's own report only the indication. Each
admission gives one case, with its first frontal study, so that long stays do not count
more. The split is the films' official one, by patient.

    for case in read_trimodal(MimicIv(iv_folder), cxr_folder):
        case.record, case.marks
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
    Provenance,
)
from model.datasets.chexpert_labels import Marks
from model.datasets.grey_image import read_grey
from model.datasets.mimic_cxr import (
    SPLITS,
    CxrFilm,
    CxrStudy,
    read_indication,
    read_labels,
    read_studies,
)
from model.datasets.mimic_iv import MimicCase, MimicIv
from model.datasets.mimic_notes import INDICATION_ONLY
from model.datasets.mimic_tables import Admission
from model.datasets.mimic_values import ORIGIN

_PRESENT = ModalityState(ModalityStatus.PRESENT)


@dataclass(frozen=True, slots=True)
class MimicTriModalCase:
    """One admission with its first frontal film.

    ``marks`` are the labeller's, (14,) in the order of ``chexpert_labels.LABELS``, None
    where it says nothing of this study.
    """

    case: MimicCase
    study: CxrStudy
    record: PatientRecord
    marks: Marks | None

    @property
    def split(self) -> str:
        """The official split of the film's patient."""
        return self.study.split


def match_studies(
    studies: Mapping[str, CxrStudy],
    admissions: Mapping[str, Admission],
    *,
    hours_before: float = 24.0,
) -> dict[str, CxrStudy]:
    """The first frontal study of each admission, by hadm_id.

    Args:
        studies: of the films.
        admissions: of the records.
        hours_before: a film this long before the admission began still belongs to it.

    Returns:
        Admissions that have such a study; a study goes to one admission only, the
        latest that it fits.
    """
    of_patient: dict[str, list[Admission]] = {}
    for admission in admissions.values():
        of_patient.setdefault(admission.patient.subject_id, []).append(admission)
    before = timedelta(hours=hours_before)
    matched: dict[str, CxrStudy] = {}
    for study in studies.values():
        if not any(film.frontal for film in study.films):
            continue
        fitting = [
            admission
            for admission in of_patient.get(study.subject_id, ())
            if admission.began - before <= study.taken_at
            and (admission.ended is None or study.taken_at < admission.ended)
        ]
        if not fitting:
            continue
        hadm = max(fitting, key=lambda admission: admission.began).hadm_id
        known = matched.get(hadm)
        if known is None or study.taken_at < known.taken_at:
            matched[hadm] = study
    return matched


def read_trimodal(
    mimic: MimicIv,
    films: Path,
    *,
    reports: Path | None = None,
    labeller: str = "chexpert",
    splits: tuple[str, ...] = SPLITS,
    progress: bool = False,
) -> Iterator[MimicTriModalCase]:
    """Cases with all three modalities' sources joined.

    Args:
        mimic: the records.
        films: folder of MIMIC-CXR-JPG.
        reports: folder whose ``files`` hold the reports; ``films`` where None.
        labeller: see :func:`mimic_cxr.read_labels`.
        splits: official splits to read.
        progress: show a bar over the tables.

    Raises:
        DatasetError: a table breaks its layout, or a film is not there.
    """
    studies = read_studies(films, splits=splits)
    marks = read_labels(films, studies, labeller)
    matched = match_studies(studies, mimic.admissions)
    cutoffs = {hadm: study.taken_at for hadm, study in matched.items()}
    for case in mimic.cases(cutoffs, progress=progress):
        study = matched[case.hadm_id]
        film = next(film for film in study.films if film.frontal)
        record = _with_film(case.record, films, study, film)
        words = read_indication(reports or films, study)
        if words:
            record = _with_indication(record, study, words)
        yield MimicTriModalCase(case, study, record, marks.get(study.study_id))


def _with_film(
    record: PatientRecord, folder: Path, study: CxrStudy, film: CxrFilm
) -> PatientRecord:
    pixels, _ = read_grey(folder / film.file)  # (H, W)
    image = ChestImage(
        pixels=pixels,
        view=film.view,
        view_inferred=False,
        study_uid="",
        series_uid="",
        sop_uid="",
        acquired_at=study.taken_at,
        provenance=Provenance(
            f"ImagingStudy/mimic-s{study.study_id}#{film.dicom_id}",
            ORIGIN,
            hashlib.sha256((folder / film.file).read_bytes()).hexdigest(),
        ),
        transforms=("grey",),
    )
    states = {**record.states, Modality.IMAGE: _PRESENT}
    return replace(record, images=(image,), states=states)


def _with_indication(
    record: PatientRecord, study: CxrStudy, words: str
) -> PatientRecord:
    digest = hashlib.sha256(words.encode()).hexdigest()
    note = ClinicalNote(
        text=words,
        written_at=study.taken_at,
        kind="radiology_report",
        provenance=Provenance(
            f"DocumentReference/mimic-s{study.study_id}", ORIGIN, digest
        ),
        flags=(INDICATION_ONLY,),
    )
    states = {**record.states, Modality.TEXT: _PRESENT}
    return replace(record, notes=(note, *record.notes), states=states)
