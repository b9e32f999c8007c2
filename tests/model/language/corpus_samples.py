"""Small fictional corpora in the original formats; nobody's text is in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

DISEASES = ("zorbitis", "plenosis", "quaverpox", "merlin fever", "tarnish syndrome")
DRUGS = ("velumab", "ostrafin", "pelladine", "korvex")
SYMPTOMS = ("wobble", "greyness", "night humming", "stiff ears")
TREATMENTS = ("lamp therapy", "cold wrapping")


def pubtator(first: int, count: int, *, classes: bool = False) -> str:
    """Abstracts that name a disease and a drug; NCBI's classes or BC5CDR's types."""
    lines = []
    for number in range(first, first + count):
        disease = DISEASES[number % len(DISEASES)]
        drug = DRUGS[number % len(DRUGS)]
        title = f"Report {number}: {disease} after {drug}."
        body = f"Case {number} had {disease} for {number} days. It went with rest."
        text = f"{title} {body}"
        lines += [f"{number}|t|{title}", f"{number}|a|{body}"]
        second = text.index(disease, len(title))
        kind = "SpecificDisease" if classes else "Disease"
        for at in (text.index(disease), second):
            lines.append(
                f"{number}\t{at}\t{at + len(disease)}\t{disease}\t{kind}\tD{number}"
            )
        if not classes:
            at = text.index(drug)
            lines.append(f"{number}\t{at}\t{at + len(drug)}\t{drug}\tChemical\tC1")
            lines.append(f"{number}\tCID\tC1\tD{number}")
        lines.append("")
    return "\n".join(lines) + "\n"


def standoff(number: int) -> tuple[str, str]:
    """Text and annotations of one case report, all four types and others."""
    parts = (
        ("Sign_symptom", SYMPTOMS[number % 4]),
        ("Disease_disorder", DISEASES[number % 5]),
        ("Medication", DRUGS[number % 4]),
        ("Therapeutic_procedure", TREATMENTS[number % 2]),
        ("Age", f"{20 + number}-year-old"),
    )
    words = dict(parts)
    text = (
        f"A {words['Age']} tailor came with {words['Sign_symptom']}.\n"
        f"We thought of {words['Disease_disorder']} and gave {words['Medication']}.\n"
        f"After {words['Therapeutic_procedure']} visit {number} ended well.\n"
    )
    lines = []
    for place, (kind, mention) in enumerate(parts, 1):
        at = text.index(mention)
        lines.append(f"T{place}\t{kind} {at} {at + len(mention)}\t{mention}")
        lines.append(f"E{place}\t{kind}:T{place} ")
    lines += ["R1\tMODIFY Arg1:T1 Arg2:T2\t", "#1\tAnnotatorNotes T1\tsure"]
    return text, "\n".join(lines) + "\n"


def _zipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _tar(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            item = tarfile.TarInfo(name)
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))


def _table(header: list[str], rows: list[list[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def medquad() -> dict[str, str]:
    """Three documents: the usual tags, the rarer ones, and one without pairs."""
    answer = "The {0} is seen at sea. It fades within weeks & needs no care. {1}"
    usual = (
        '<?xml version="1.0"?><Document id="1"><Focus>{0}</Focus><QAPairs>'
        '<QAPair pid="1"><Question qid="{1}-1" qtype="information">What is {0} ?'
        "</Question><Answer>{2}</Answer></QAPair>"
        '<QAPair pid="2"><Question qid="{1}-2" qtype="causes">Why {0} ?</Question>'
        "<Answer></Answer></QAPair></QAPairs></Document>"
    )
    files = {}
    for number in range(60):
        disease = f"{DISEASES[number % 5]} of type {number}"
        text = answer.format(disease, f"Sailors call it number {number} of the list.")
        files[f"MedQuAD/1_A/{number:04d}.xml"] = usual.format(
            disease, number, text.replace("&", "&amp;")
        )
    files["MedQuAD/6_N/0001.xml"] = (
        "<doc><doctitle-focus>plenosis</doctitle-focus><qaPairs><pair pid='1'>"
        "<question qid='n-1' qtype='outlook'>how does plenosis end ?</question>"
        "<answer>It ends by itself after some weeks of rest.</answer></pair>"
        "</qaPairs></doc>"
    )
    files["MedQuAD/5_D/0001.xml"] = (
        "<Document><Focus>empty</Focus><QAPairs></QAPairs></Document>"
    )
    return files


def grid(lines: list[tuple[float, str]]) -> str:
    """A TextGrid of one tier."""
    text = 'File type = "ooTextFile"\nxmin = 0 \nxmax = 9 \n    item [1]:\n'
    text += '        name = "Doctor" \n        xmin = 0 \n        xmax = 9 \n'
    for number, (start, words) in enumerate(lines, 1):
        text += f"        intervals [{number}]:\n            xmin = {start} \n"
        text += f'            xmax = {start + 1} \n            text = "{words}" \n'
    return text


def head_qa(split: str, count: int, options: int) -> str:
    """Exams whose right answer is the drug that the question names."""
    data = []
    for number in range(count):
        drug = DRUGS[number % 4]
        others = [f"{name} {number}" for name in DISEASES][: options - 1]
        answers = [*others[: number % options], drug, *others[number % options :]]
        data.append(
            {
                "qid": str(number + 1),
                "qtext": f"Which is the drug {drug} of exam {split} {number}?",
                "ra": str(number % options + 1),
                "answers": [
                    {"aid": n, "atext": text} for n, text in enumerate(answers, 1)
                ],
                "image": "plate.png" if number == 3 else "",
            }
        )
    return json.dumps({"version": "1.0", "exams": {"Exam_A": {"data": data}}})


def pubmedqa(count: int) -> tuple[str, str]:
    """Questions over two passages, and the truth of the second half."""
    items, truth = {}, {}
    for number in range(count):
        decision = ("yes", "no", "maybe")[number % 3]
        items[str(9000 + number)] = {
            "QUESTION": f"Does {DRUGS[number % 4]} help in trial {number}?",
            "CONTEXTS": [
                f"Trial {number} followed sixty tailors. They had {DISEASES[0]}.",
                f"The outcome was {decision}. Nobody left trial {number}.",
            ],
            "LABELS": ["METHODS", "RESULTS"],
            "final_decision": decision,
            "LONG_ANSWER": "It was as it was.",
        }
        if number >= count // 2:
            truth[str(9000 + number)] = decision
    return json.dumps(items), json.dumps(truth)


def write_corpora(data: Path) -> None:
    """Everything that the text tasks read, below ``data``."""
    texts = data / "texts"
    names = ("TrainingSet", "DevelopmentSet", "TestSet")
    for start, name in zip((100, 200, 300), names):
        path = texts / "bc5cdr" / f"CDR_{name}.PubTator.txt.gz"
        _zipped(path, pubtator(start, 8))
    for start, name in zip((400, 500, 600), ("train", "develop", "test")):
        path = texts / "ncbi-disease" / f"NCBI{name}set_corpus.txt.gz"
        _zipped(path, "\n" + pubtator(start, 6, classes=True))
    reports = texts / "maccrobat2020" / "MACCROBAT2020.zip"
    reports.parent.mkdir(parents=True)
    with zipfile.ZipFile(reports, "w") as archive:
        for number in range(20):
            text, marks = standoff(number)
            archive.writestr(f"MACCROBAT2020/{7000 + number}.txt", text)
            archive.writestr(f"MACCROBAT2020/{7000 + number}.ann", marks)
    _tar(texts / "medquad" / "MedQuAD-with-answers.tar.gz", medquad())
    header = ["ID", "section_header", "section_text", "dialogue"]
    for name, start in (("TrainingSet", 0), ("ValidationSet", 20)):
        rows = [
            [str(n), "GENHX", f"Visit {n} for {SYMPTOMS[n % 4]}.", f"Doctor: {n}?\nOk."]
            for n in range(start, start + 12)
        ]
        _zipped(
            texts / "mts-dialog" / f"MTS-Dialog-{name}.csv.gz", _table(header, rows)
        )
    header = ["dataset", "encounter_id", "dialogue", "note"]
    for name in ("train", "valid"):
        rows = [
            ["aci", f"D{n}", f"[doctor] hello {name} {n} .", f"HPI\n{name} {n} hums."]
            for n in range(8)
        ]
        _zipped(
            texts / "aci-bench" / "challenge_data" / f"{name}.csv.gz",
            _table(header, rows),
        )
    _primock(texts / "primock57")
    for split, count, options in (("train", 24, 5), ("dev", 6, 4), ("test", 8, 4)):
        path = texts / "head-qa-en" / f"{split}_HEAD_EN.json.gz"
        _zipped(path, head_qa(split, count, options))
    _exams(data)


def _primock(folder: Path) -> None:
    speech = [(0.0, "Hello, <UNSURE>come</UNSURE> in."), (2.0, "")]
    answer = [(1.0, 'I said ""no"" twice.'), (3.0, "It hums at night, all of it.")]
    name = "primock57/transcripts/day1_consultation01"
    _tar(
        folder / "primock57-notes-transcripts.tar.gz",
        {
            f"{name}_doctor.TextGrid": grid(speech),
            f"{name}_patient.TextGrid": grid(answer),
            "primock57/notes/README.md": "notes",
            "primock57/notes/day1_consultation01.json": json.dumps(
                {"note": "3/7 hx of humming. No wobble. " * 4, "day": 1}
            ),
        },
    )


def _exams(data: Path) -> None:
    subjects = ("anatomy", "clinical_knowledge", "college_biology")
    subjects += ("college_medicine", "medical_genetics", "professional_medicine")
    folder = data / "texts" / "mmlu-medical"
    folder.mkdir()
    header = ["question", *(f"choice{n}" for n in range(4)), "answer"]
    for subject in subjects:
        rows = [
            [f"{subject} item {n}, which one?", "a", "b, or", "c longer", "d", str(n)]
            for n in range(3)
        ]
        (folder / f"{subject}_test.csv").write_text(_table(header, rows))
    items, truth = pubmedqa(12)
    (data / "pubmedqa").mkdir()
    (data / "pubmedqa" / "ori_pqal.json").write_text(items)
    (data / "pubmedqa" / "test_ground_truth.json").write_text(truth)
    _medqa(data / "medqa" / "questions" / "US")


def _medqa(folder: Path) -> None:
    """Both published layouts; the question names its answer."""
    (folder / "4_options").mkdir(parents=True)
    for split, count in (("train", 8), ("dev", 2), ("test", 4)):
        five, four = [], []
        for number in range(count):
            options = dict(zip("ABCDE", (*DRUGS, "rest")))
            letter = "ABCD"[number % 4]
            row = {
                "question": f"A {number}-year-old hums. Give {options[letter]}?",
                "answer": options[letter],
                "options": options,
                "meta_info": "step1",
                "answer_idx": letter,
            }
            five.append(json.dumps(row))
            del options["E"]
            four.append(json.dumps({**row, "metamap_phrases": ["hums"]}))
        (folder / f"{split}.jsonl").write_text("\n".join(five) + "\n")
        path = folder / "4_options" / f"phrases_no_exclude_{split}.jsonl"
        path.write_text("\n".join(four) + "\n")
