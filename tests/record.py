"""Records the runs that the page opens with: python tests/record.py [FOLDER]

The bundled pair, on the machine it is run on; best on a quiet one. FOLDER: assets/traces.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from stairs_core import Runner, Settings, load_pair, tracefile
from stairs_core.race import race
from stairs_core.render import page, words
from stairs_core.settings import AUTO

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "traces"
CHAIN = Settings(k=5, max_new_tokens=160)
REFRAIN = "The ball was round. The ball was red. The ball was big. The ball was round. The ball was"


def main(folder: Path) -> None:
    pair = load_pair()
    pair.measure_prices()
    for name, prompt in page.PROMPTS.items():
        _record(folder / f"{name.lower().replace(' ', '-')}.jsonl", pair, prompt, [CHAIN])
    several = [
        replace(CHAIN, **AUTO),
        Settings("tree", k=8, max_new_tokens=160),
        Settings("lookup", k=8, max_new_tokens=160),
    ]
    _record(folder / "four-lanes.jsonl", pair, REFRAIN, several)


def _record(path: Path, pair, prompt: str, lanes: list[Settings]) -> None:
    named = {words.lane(s) if len(lanes) > 1 else "Stairs": s for s in lanes}
    runners = [Runner(pair, prompt, lanes[0].alone(), "Target alone")]
    runners += [Runner(pair, prompt, s, name) for name, s in named.items()]
    for _ in race(runners):
        pass
    tracefile.write(path, [runner.recording() for runner in runners])
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
