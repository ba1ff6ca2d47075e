"""The registry of drafters: every fact about a method that others ask for, without loading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Method:
    """What can be said of a drafter without loading it.

    ``label``: who guesses, in a few words. ``words``: how, in a clause. ``tree``: its guesses are
    trees. ``ranked``: of these trees, the likeliest guesses come first. ``references``: it reads
    reference texts. ``draft``: whether it runs a draft model, and whether that must share the
    target's tokenizer. ``reports_confidence``: it asks ``length.keep_drafting`` after each token,
    with the draft's probability of it. ``skips``: it leaves out layers of the target. ``masks``:
    the target must have been trained to guess at mask tokens. ``head``: the kind of head, trained
    on the target, that it needs; "" for none.
    ``lossy``: another model writes the text, which is not the target's. ``reads_text``: it needs
    texts, where transformers' ``generate`` has ids only. ``priced``: its passes are those that
    ``measuring.pass_timing`` times, so that a speedup can be predicted from them. ``by_cost``: a
    benchmark also runs it with K auto. ``usual_k``: the K that suits it, and the one that a
    benchmark runs it with, unless its head says another (``Pair.usual_k``); None: all that are
    asked for. ``more``: how many tokens a pass reads
    that are no guesses, by K.
    """

    label: str
    words: str
    tree: bool = False
    ranked: bool = False
    references: bool = False
    draft: Literal["no", "same", "any"] = "no"
    reports_confidence: bool = False
    skips: bool = False
    masks: bool = False
    head: str = ""
    lossy: bool = False
    reads_text: bool = False
    priced: bool = True
    by_cost: bool = False
    usual_k: int | None = None
    more: Callable[[int], int] = lambda k: 0

    @property
    def uses_draft_model(self) -> bool:
        return self.draft != "no"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a pair cannot use a drafter, as a clause. ``but``: backends with which it still can."""

    why: str
    but: tuple[str, ...] = ()


REGISTRY = {
    "none": Method("nobody", "no guesses: the target decodes alone, through the same loop"),
    "model": Method(
        "the draft model",
        "a small model of the same tokenizer guesses K tokens, one after another",
        draft="same",
        reports_confidence=True,
        by_cost=True,
    ),
    "tree": Method(
        "the draft model, a tree",
        "the draft model's K likeliest tokens, in several branches where it is not sure",
        tree=True,
        ranked=True,
        draft="same",
        priced=False,
        by_cost=True,
    ),
    "hybrid": Method(
        "copying, else the draft model",
        "copies where the text repeats itself at length, else asks the draft model",
        draft="same",
        reports_confidence=True,
        by_cost=True,
    ),
    "lookup": Method(
        "copying from the text",
        "copies what followed the last tokens where they occurred before",
        by_cost=True,
        usual_k=10,
    ),
    "suffix": Method(
        "copying the longest match",
        "copies what followed the text's longest suffix that occurred before, or in references",
        references=True,
        by_cost=True,
        usual_k=16,
    ),
    "reference": Method(
        "copying from references",
        "copies what follows the last tokens in the texts of --reference",
        references=True,
        reads_text=True,
        usual_k=16,
    ),
    "ngram-table": Method(
        "a table of n-grams",
        "copies where the text repeats itself, else what a table of the target's own texts says",
        reports_confidence=True,
        head="ngram-table",
        by_cost=True,
        usual_k=4,
    ),
    "recycle": Method(
        "recycled tokens",
        "what the target found likely after a token when it last read it",
        tree=True,
        usual_k=8,
    ),
    "lookahead": Method(
        "lookahead",
        "n-grams from a window in which the target guesses several positions ahead",
        tree=True,
        priced=False,
        usual_k=9,
        more=lambda k: 14,
    ),
    "jacobi": Method("Jacobi decoding", "what the target predicted after a rejected guess"),
    "space": Method(
        "the target, at masks",
        "the target itself guesses, at mask tokens in the pass that checks (SPACE)",
        tree=True,
        masks=True,
        priced=False,
        usual_k=2,
        more=lambda k: k * (k + 1),
    ),
    "medusa": Method(
        "heads on the target",
        "small heads trained on the target guess several tokens at once (Medusa)",
        reports_confidence=True,
        head="medusa",
        priced=False,
        usual_k=3,
    ),
    "slm": Method(
        "a small model, helped",
        "a small model that read the prompt with the target's hidden states guesses (LLM-to-SLM)",
        reports_confidence=True,
        head="slm",
        priced=False,
        usual_k=5,
    ),
    "slm-alone": Method(
        "a small model instead (lossy)",
        "the target reads the prompt, then the small model alone writes another text (LLM-to-SLM)",
        head="slm",
        lossy=True,
        priced=False,
    ),
    "chimera": Method(
        "heads that know each other",
        "heads on the target, each of which knows what the ones before it guessed (Chimera)",
        reports_confidence=True,
        head="chimera",
        priced=False,
        usual_k=3,
    ),
    "hidden-transfer": Method(
        "pseudo hidden states",
        "hidden states of later tokens, guessed at middle layers of the target (Hidden Transfer)",
        reports_confidence=True,
        head="hidden-transfer",
        priced=False,
        usual_k=3,
    ),
    "firp": Method(
        "pseudo states, one layer",
        "hidden states of later tokens, all guessed at one middle layer of the target (FIRP)",
        reports_confidence=True,
        head="firp",
        priced=False,
        usual_k=3,
    ),
    "eagle": Method(
        "EAGLE's head on the target",
        "one layer trained on the target's hidden states guesses token by token (EAGLE-3)",
        reports_confidence=True,
        head="eagle",
        priced=False,
        usual_k=5,
    ),
    "hybrid-eagle": Method(
        "copying, else EAGLE's head",
        "copies where the text repeats itself at length, else asks EAGLE's head",
        reports_confidence=True,
        head="eagle",
        priced=False,
        by_cost=True,
        usual_k=3,
    ),
    "eagle-tree": Method(
        "EAGLE's head, a tree",
        "that head's K likeliest tokens, in several branches where it is not sure",
        tree=True,
        ranked=True,
        head="eagle",
        priced=False,
        usual_k=6,
    ),
    "hybrid-eagle-tree": Method(
        "copying, else EAGLE's tree",
        "copies where the text repeats itself at length, else asks EAGLE's head for a tree",
        tree=True,
        ranked=True,
        head="eagle",
        priced=False,
        by_cost=True,
        usual_k=5,
    ),
    "layer-skip": Method(
        "the target, layers skipped",
        "the target without some attention and MLP blocks; no second model",
        reports_confidence=True,
        skips=True,
        priced=False,
        usual_k=4,
    ),
    "reencode": Method(
        "a draft, encoded anew",
        "a small model of any tokenizer guesses; its text is encoded anew",
        draft="any",
        # Not reports_confidence: the draft stops at tokens of its own, which are not the target's.
        reads_text=True,
        priced=False,
    ),
    "shared": Method(
        "a draft, shared tokens",
        "a small model of another tokenizer guesses among the tokens that both have",
        draft="any",
        reports_confidence=True,
        reads_text=True,
        by_cost=True,
    ),
}
NAMES = tuple(REGISTRY)
EXACT = tuple(name for name, method in REGISTRY.items() if not method.lossy)
"""Those whose text is the target's own."""
LOSSY = "lossy"
"""What the others promise, in traces: another text, by design."""
FREE = ("lookup", "suffix")
"""Drafters that work with any target and any text."""
USUAL = ("model", "hybrid-eagle-tree", "hybrid-eagle", "ngram-table", *FREE)
"""Who guesses where nobody is named: the first that the pair can use."""


def priced(name: str) -> bool:
    """Whether the passes of this drafter are of the kind that is timed. True for names not known
    here, which a trace may hold."""
    return name not in REGISTRY or REGISTRY[name].priced
