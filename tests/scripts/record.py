"""Records the runs that come with the page: python tests/scripts/record.py [FOLDER] [--only chat]

The bundled pair, and the chat model smollm2-135m, on the machine it is run on; best on a quiet one.
FOLDER: assets/traces. The page opens with the first by name.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from stairs_core import Runner, Settings, load_pair
from stairs_core.measuring import pass_timing
from stairs_core.measuring.race import race
from stairs_core.render import labels
from stairs_core.settings.settings import AUTO
from stairs_core.traces import files
from stairs_core.web import widgets

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "traces"
CHAIN = Settings(k=5, max_new_tokens=160)
REFRAIN = "The ball was round. The ball was red. The ball was big. The ball was round. The ball was"


def bundled(folder: Path) -> None:
    pair = load_pair()
    pass_timing.measure_all(pair)
    for name, prompt in widgets.PROMPTS.items():
        _record(folder / f"{name.lower().replace(' ', '-')}.jsonl", pair, prompt, [CHAIN])
    several = [
        replace(CHAIN, **AUTO),
        Settings("tree", k=8, max_new_tokens=160),
        Settings("lookup", k=8, max_new_tokens=160),
    ]
    _record(folder / "four-lanes.jsonl", pair, REFRAIN, several)


def chat(folder: Path) -> None:
    pair = load_pair("smollm2-135m")
    pass_timing.measure_all(pair)
    usual = replace(Settings(pair.usual_drafter(), max_new_tokens=128, chat=True), **AUTO)
    others = [replace(usual, drafter="ngram-table", **AUTO), replace(usual, drafter="lookup", k=8)]
    asked = [*widgets.CHATS.values()]
    _record(folder / "a-chat-about-gravity.jsonl", pair, asked[0], [usual])
    _record(folder / "a-chat-four-lanes.jsonl", pair, asked[2], [usual, *others])


def _record(path: Path, pair, prompt: str, lanes: list[Settings]) -> None:
    named = {labels.lane(s) if len(lanes) > 1 else "Stairs": s for s in lanes}
    runners = [Runner(pair, prompt, lanes[0].alone(), "Target alone")]
    runners += [Runner(pair, prompt, s, name) for name, s in named.items()]
    for _ in race(runners, match_drafts=True):
        pass
    files.write(path, [runner.recording() for runner in runners])
    print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", choices=("bundled", "chat"))
    args = parser.parse_args()
    for record in (bundled, chat):
        if args.only in (None, record.__name__):
            record(args.folder)
