"""Free text passes the claim verifier before it is shown, sentence by sentence."""

from __future__ import annotations

import pytest

from model.language.free_text import Draft, Fault, checked_text, fault_of

PASSAGES = {
    "DocumentReference/n#char=0,48": "Dense opacity in the right lower zone; 14.0.",
    "DocumentReference/n#char=50,90": "No wheeze. The tailor denies chest pain.",
}
FILM, NOTE = PASSAGES


@pytest.mark.component("A5")
@pytest.mark.parametrize(
    ("text", "cited", "fault"),
    [
        ("There is a dense opacity in the right lower zone.", FILM, None),
        ("The zone is \u201cright lower zone\u201d.", FILM, None),
        ("No wheeze, no pain.", NOTE, None),
        ("Opacity at 14.0.", FILM, None),
        ("Dense opacity in the left lower zone.", FILM, Fault.VERIFIER),
        ("Opacity at 15.0.", FILM, Fault.VERIFIER),
        ("He said \u201cgive velumab\u201d.", FILM, Fault.VERIFIER),
        ("Dense opacity.", "DocumentReference/other", Fault.VERIFIER),
        ("Dense opacity, so pneumonia.", FILM, Fault.UNSUPPORTED),
        ("Give velumab now.", NOTE, Fault.UNSUPPORTED),
        ("Wheeze and pain.", NOTE, Fault.NEGATION),
        ("No opacity.", FILM, Fault.NEGATION),
    ],
)
def test_a_claim_is_held_against_the_passage_that_it_cites(
    text: str, cited: str, fault: Fault | None
) -> None:
    assert fault_of(Draft(text, (cited,)), PASSAGES) is fault


@pytest.mark.component("A5")
def test_what_fails_is_counted_and_never_shown() -> None:
    drafts = [
        Draft("Dense opacity.", (FILM,)),
        Draft("Dense opacity, so cancer.", (FILM,)),
        Draft("Wheeze.", (NOTE,)),
        Draft("Dense opacity.", ()),
    ]
    found = checked_text(drafts, PASSAGES)
    assert [sentence.text for sentence in found.shown] == ["Dense opacity."]
    assert found.shown[0].evidence == (FILM,)
    assert dict(found.refused) == {
        Fault.VERIFIER: 1,
        Fault.UNSUPPORTED: 1,
        Fault.NEGATION: 1,
    }
    assert checked_text([], PASSAGES).shown == ()
