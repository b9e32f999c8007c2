"""Corpora in their original formats, and mutated ones that must fail clearly."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from model.errors import CorpusError
from model.language.corpora import files
from model.language.corpora.annotated import (
    LABELLED,
    Corpus,
    EntitySpan,
    EntityType,
    annotated,
    without_overlap,
)
from model.language.corpora.brat import read_maccrobat, read_standoff
from model.language.corpora.prose import (
    read_aci_bench,
    read_medquad,
    read_mts_dialog,
    read_primock57,
)
from model.language.corpora.pubtator import read_bioc, read_pubtator
from model.language.corpora.questions import (
    medqa_choices,
    read_head_qa,
    read_mmlu,
    read_pubmedqa,
)
from tests.model.language.corpus_samples import grid, pubtator
from tests.services import data_folder

DISEASE, DRUG = EntityType.DISEASE, EntityType.MEDICATION
BIOC = """<?xml version="1.0"?><!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><document><id>7</id>
<passage><offset>0</offset><text>Velumab and zorbitis</text>
<annotation id="1"><infon key="type">Chemical</infon>
<location offset="0" length="7"/><text>Velumab</text></annotation>
<annotation id="2"><infon key="type">Other</infon>
<location offset="0" length="7"/></annotation></passage>
<passage><offset>22</offset><text>Acute and chronic zorbitis.</text>
<annotation id="3"><infon key="type">Disease</infon>
<location offset="22" length="5"/><location offset="40" length="8"/>
</annotation></passage></document></collection>"""


def mentions(document) -> list[str]:
    return [document.text[s.start : s.end] for s in document.spans]


def test_pubtator_gives_typed_spans_at_their_offsets(corpora: Path) -> None:
    found = read_pubtator(corpora / "texts" / "bc5cdr", Corpus.BC5CDR, "train")
    assert [document.name for document in found] == [str(n) for n in range(100, 108)]
    assert mentions(found[0]) == ["zorbitis", "velumab", "zorbitis"]
    assert [s.type for s in found[0].spans] == [DISEASE, DRUG, DISEASE]
    other = read_pubtator(corpora / "texts" / "ncbi-disease", Corpus.NCBI, "test")
    assert len(other) == 6 and {s.type for d in other for s in d.spans} == {DISEASE}


def test_a_repeated_abstract_is_read_once_and_its_copy_not_at_all(
    tmp_path: Path,
) -> None:
    copy = "400|t|Report\n400|a|Another\n400\t0\t3\tmissed\tModifier\tD1\n"
    text = pubtator(400, 1, classes=True) + copy
    (tmp_path / "NCBItrainset_corpus.txt").write_text(text)
    assert len(read_pubtator(tmp_path, Corpus.NCBI, "train")) == 1


def test_a_mention_that_ends_in_blanks_is_trimmed(tmp_path: Path) -> None:
    text = "5|t|Merlin fever  was\n5|a|Gone.\n5\t0\t14\tMerlin fever  \tModifier\tD1\n"
    (tmp_path / "NCBItrainset_corpus.txt").write_text(text)
    (document,) = read_pubtator(tmp_path, Corpus.NCBI, "train")
    assert document.spans == (EntitySpan(0, 12, DISEASE),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7|t|Alone\n",
        "7|t|Title\n8|a|Body\n",
        "7|t|Title\n7|a|Body\n7\t0\t3\tTit\tPlanet\tD1\n",
        "7|t|Title\n7|a|Body\n7\t0\tx\tTit\tModifier\tD1\n",
        "7|t|Title\n7|a|Body\n7\t0\t3\n7\t0\n",
        "7|t|Title\n7|a|Body\n7\t1\t4\tTit\tModifier\tD1\n",
        "7|t|Title\n7|a|Body\n7\t5\t6\t \tModifier\tD1\n",
    ],
)
def test_pubtator_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "NCBItrainset_corpus.txt").write_text(text)
    with pytest.raises(CorpusError):
        read_pubtator(tmp_path, Corpus.NCBI, "train")


def test_bioc_joins_passages_at_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "CDR.BioC.xml"
    path.write_text(BIOC)
    (document,) = read_bioc(path)
    assert document.text[22:].startswith("Acute")
    assert document.spans == (EntitySpan(0, 7, DRUG), EntitySpan(22, 48, DISEASE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("collection>", "collected>"),
        ("<id>7</id>", ""),
        ("<offset>22<", "<offset>two<"),
        ("<offset>22<", "<offset>3<"),
        ('length="8"', 'length="80"'),
        ('<location offset="0" length="7"/><text>', "<text>"),
        ('"BioC.dtd">', '"BioC.dtd" [<!ENTITY a "b">]>'),
        ("</document>", ""),
    ],
)
def test_bioc_refuses(old: str, new: str, tmp_path: Path) -> None:
    assert old in BIOC
    path = tmp_path / "CDR.BioC.xml"
    path.write_text(BIOC.replace(old, new))
    with pytest.raises(CorpusError):
        read_bioc(path)


def test_maccrobat_is_split_by_document_and_names_alone_decide(corpora: Path) -> None:
    folder = corpora / "texts" / "maccrobat2020"
    splits = read_maccrobat(folder)
    assert {name: len(found) for name, found in splits.items()} == {
        "train": 14,
        "dev": 3,
        "test": 3,
    }
    names = [document.name for found in splits.values() for document in found]
    assert len(set(names)) == 20
    kinds = {span.type for document in splits["test"] for span in document.spans}
    assert kinds == set(EntityType)


def test_maccrobat_reads_an_unpacked_folder_as_well(
    corpora: Path, tmp_path: Path
) -> None:
    folder = corpora / "texts" / "maccrobat2020"
    with zipfile.ZipFile(folder / "MACCROBAT2020.zip") as archive:
        archive.extractall(tmp_path)
    assert read_maccrobat(tmp_path) == read_maccrobat(folder)
    next(tmp_path.rglob("*.ann")).unlink()
    with pytest.raises(CorpusError, match="pair up"):
        read_maccrobat(tmp_path)


def test_standoff_closes_a_discontinuous_mention_and_counts_it() -> None:
    marks = "T1\tSign_symptom 0 4;10 14\tlegs pain\nT2\tDate 5 7\tdo\n"
    found = read_standoff("x", "legs do a pain.", marks)
    assert found.spans == (EntitySpan(0, 14, EntityType.SYMPTOM),)
    assert found.fragments == 1


@pytest.mark.parametrize(
    "marks",
    ["T1\tSign_symptom 0 4", "T1\tSign_symptom 0 x\tlegs", "T1\tMedication 0 4\tarms"],
)
def test_standoff_refuses(marks: str) -> None:
    with pytest.raises(CorpusError):
        read_standoff("x", "legs do a pain.", marks)


def test_a_corpus_says_nothing_about_types_that_it_does_not_label() -> None:
    assert LABELLED[Corpus.NCBI] == {DISEASE}
    with pytest.raises(CorpusError, match="not labelled"):
        annotated("x", "velumab", [EntitySpan(0, 7, DRUG)], Corpus.NCBI)
    with pytest.raises(CorpusError, match="span 0-9"):
        annotated("x", "velumab", [EntitySpan(0, 9, DRUG)], Corpus.BC5CDR)


def test_of_overlapping_spans_of_a_type_the_longer_stays() -> None:
    spans = [EntitySpan(0, 4, DISEASE), EntitySpan(2, 9, DISEASE)]
    drug = EntitySpan(0, 4, DRUG)
    assert without_overlap([*spans, drug]) == [drug, spans[1]]


def test_medquad_reads_both_ways_of_tagging(corpora: Path) -> None:
    answers = read_medquad(corpora / "texts" / "medquad")
    assert len(answers) == 61
    assert "weeks & needs" in answers[0].answer
    assert answers[0].focus.startswith("zorbitis")
    assert answers[-1].question_type == "outlook"


def test_dialogues_and_notes(corpora: Path) -> None:
    texts = corpora / "texts"
    assert read_mts_dialog(texts / "mts-dialog", "train")[1].section == "GENHX"
    assert read_aci_bench(texts / "aci-bench", "dev")[0].note == "HPI\nvalid 0 hums."
    (visit,) = read_primock57(texts / "primock57")
    assert visit.dialogue.split("\n") == [
        "Hello, come in.",
        'I said "no" twice.',
        "It hums at night, all of it.",
    ]
    with pytest.raises(CorpusError, match="no split"):
        read_mts_dialog(texts / "mts-dialog", "all")


def _tarred(path: Path, name: str, text: str) -> None:
    with tarfile.open(path, "w:gz") as archive:
        item = tarfile.TarInfo(name)
        item.size = len(text.encode())
        archive.addfile(item, io.BytesIO(text.encode()))


@pytest.mark.parametrize(
    "text",
    ["<other/>", "<Document>", "<Document><QAPairs><QAPair/></QAPairs></Document>"],
)
def test_medquad_refuses(text: str, tmp_path: Path) -> None:
    _tarred(tmp_path / "MedQuAD-with-answers.tar.gz", "a.xml", text)
    with pytest.raises(CorpusError):
        read_medquad(tmp_path)


def test_primock_needs_a_note_and_its_transcript(tmp_path: Path) -> None:
    (tmp_path / "a_doctor.TextGrid").write_text(grid([(0.0, "Hi.")]))
    (tmp_path / "b.json").write_text('{"note": "x"}')
    with pytest.raises(CorpusError, match="no transcript"):
        read_primock57(tmp_path)
    (tmp_path / "a_doctor.TextGrid").write_text("nothing said")
    with pytest.raises(CorpusError, match="TextGrid"):
        read_primock57(tmp_path)


def test_pubmedqa_keeps_the_official_test_ids_apart(corpora: Path) -> None:
    found = read_pubmedqa(corpora / "pubmedqa")
    assert [len(found["train"]), len(found["test"])] == [6, 6]
    first = found["train"][0]
    assert first.options[first.answer] == "yes" and len(first.context) == 2
    assert all("as it was" not in part for part in first.context)


@pytest.mark.parametrize(
    ("items", "truth"),
    [
        ("[]", "{}"),
        ("{", "{}"),
        ('{"1": {"final_decision": "perhaps"}}', "{}"),
        ('{"1": []}', "{}"),
        ("{}", '{"2": "yes"}'),
        (
            '{"1": {"final_decision": "no", "CONTEXTS": [], "QUESTION": "?"}}',
            '{"1": "yes"}',
        ),
    ],
)
def test_pubmedqa_refuses(items: str, truth: str, tmp_path: Path) -> None:
    (tmp_path / "ori_pqal.json").write_text(items)
    (tmp_path / "test_ground_truth.json").write_text(truth)
    with pytest.raises(CorpusError):
        read_pubmedqa(tmp_path)


def test_head_qa_has_as_many_options_as_it_has(corpora: Path) -> None:
    folder = corpora / "texts" / "head-qa-en"
    train, test = read_head_qa(folder, "train"), read_head_qa(folder, "test")
    assert {len(question.options) for question in train} == {5}
    assert {len(question.options) for question in test} == {4}
    assert train[3].image and not train[0].image
    assert train[1].options[train[1].answer] == "ostrafin"


@pytest.mark.parametrize(
    "text",
    ["[]", '{"exams": {"A": {}}}', '{"exams": {"A": {"data": [{"answers": []}]}}}'],
)
def test_head_qa_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "train_HEAD_EN.json").write_text(text)
    with pytest.raises(CorpusError):
        read_head_qa(tmp_path, "train")


def test_mmlu_resolves_columns_by_name(corpora: Path, tmp_path: Path) -> None:
    found = read_mmlu(corpora / "texts" / "mmlu-medical", "anatomy")
    assert [question.answer for question in found] == [0, 1, 2]
    assert found[0].options == ("a", "b, or", "c longer", "d")
    path = tmp_path / "anatomy_test.csv"
    path.write_text("question,choice0,choice1,choice2,choice3,answer\nq,a,b,c,d,A\n")
    with pytest.raises(CorpusError, match="0 to 3"):
        read_mmlu(tmp_path, "anatomy")


@pytest.mark.component("A23c")
def test_medqa_questions_take_the_shape_of_the_choice_head(corpora: Path) -> None:
    found = list(medqa_choices(corpora / "medqa", "train", "five"))
    assert len(found) == 8 and len(found[0].options) == 5
    assert found[1].options[found[1].answer] == "ostrafin"


def test_files_are_found_plain_or_compressed_and_faults_are_typed(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\ufeffone\r\ntwo".encode()))
    assert files.read_text(files.find_file(tmp_path, "a.txt")) == "one\ntwo"
    with pytest.raises(CorpusError, match="missing"):
        files.find_file(tmp_path, "b.txt")
    for data in (b"no gzip", gzip.compress(b"half")[:-9]):
        (tmp_path / "a.txt.gz").write_bytes(data)
        with pytest.raises(CorpusError, match="read"):
            files.read_text(tmp_path / "a.txt.gz")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="UTF-8"):
        files.read_text(tmp_path / "c.txt")


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,c\n1\n", "a,c\n1,2,3\n"])
def test_a_table_must_fit_its_header(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CorpusError):
        files.read_table(tmp_path / "t.csv", ("a", "c"))


def test_archives_that_are_damaged_missing_or_huge_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x.zip", "x.tar.gz"):
        with pytest.raises(CorpusError, match="missing"):
            list(files.members(tmp_path, name, ".txt"))
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(CorpusError, match="damaged"):
            list(files.members(tmp_path, name, ".txt"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("big.txt", "x" * 100)
    monkeypatch.setattr(files, "MEMBER_LIMIT", 50)
    with pytest.raises(CorpusError, match="larger"):
        list(files.members(tmp_path, "x.zip", ".txt"))


@pytest.mark.data("texts")
def test_the_real_corpora_have_the_counts_of_their_publications() -> None:
    texts = data_folder("texts")
    found = {
        (corpus, split): read_pubtator(texts / corpus, corpus, split)
        for corpus in (Corpus.BC5CDR, Corpus.NCBI)
        for split in ("train", "dev", "test")
    }
    sizes = {key: sum(len(d.spans) for d in found[key]) for key in found}
    assert sizes[Corpus.BC5CDR, "test"] == 5385 + 4424
    assert sizes[Corpus.NCBI, "test"] == 960
    assert len(found[Corpus.NCBI, "train"]) == 592
    reports = read_maccrobat(texts / "maccrobat2020")
    assert [len(reports[s]) for s in ("train", "dev", "test")] == [140, 30, 30]
    kinds = [s.type for d in reports["test"] for s in d.spans]
    assert kinds.count(EntityType.SYMPTOM) == 558
    assert len(read_head_qa(texts / "head-qa-en", "test")) == 2742
    splits = read_pubmedqa(data_folder("pubmedqa"))
    assert [len(splits["train"]), len(splits["test"])] == [500, 500]
