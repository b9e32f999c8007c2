"""Words that explanations treat apart, as data."""

from __future__ import annotations

#: English function words: a gradient may fall on them, but they name no finding.
STOP_WORDS = frozenset("""
    a about above after again all also am an and any are as at be because been before
    being below between both but by can could did do does doing down during each few for
    from further had has have having he her here hers him his how i if in into is it its
    just me more most my nor of off on once only or other our out over own per same she
    so some such than that the their them then there these they this those through to
    too under until up very was we were what when where which while who whom why will
    with would you your
    """.split())

#: Words that turn what follows in their sentence into its opposite.
NEGATIONS = frozenset(
    "no not without denies denied deny negative never absent absence free".split()
)

#: How many words after a negation it still covers.
NEGATION_REACH = 6

#: Words that end a negation's reach before that.
NEGATION_ENDS = frozenset("but however although except".split())
