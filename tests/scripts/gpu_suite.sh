#!/usr/bin/env bash
# Everything that a GPU is to show, in one go, on a machine with torch, transformers and pytest:
#
#     bash tests/scripts/gpu_suite.sh OUT [PART ...]
#
# Parts, in this order: env strict bench race train tests. Each has a time limit of its own, and
# none stops the others. OUT gets a log of each and numbers.tgz: tables, JSON and traces. Status 1 if
# a part failed. Needs no page: without gradio, plotly or gguf, what needs them is skipped.
# DEVICE=cpu rehearses it where there is no GPU, LIMIT=0.1 shortens every limit; BENCH has options
# of the bench besides its own.
set -u
cd "$(dirname "$0")/../.." || exit 2
OUT=$(mkdir -p "${1:?name a folder for the results}" && cd "$1" && pwd) && shift
PARTS=${*:-env strict bench race train tests}
DEVICE=${DEVICE:-cuda} PYTHON=${PYTHON:-python3} WORKERS=${WORKERS:-6} LIMIT=${LIMIT:-1}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}  # nothing need be installed
KEEP=$OUT/numbers && mkdir -p "$KEEP"
FAILED=0

# limited SECONDS COMMAND...: interrupted after so long, so that it still says what it has. Where
# this shell was started in the background, interrupts are ignored unless they are asked for; sent
# to the whole group, the program would have two.
HEARS=$(env --default-signal=INT echo env --default-signal=INT 2>/dev/null)
limited() {
    local seconds
    seconds=$(awk "BEGIN { print int($1 * $LIMIT) + 1 }") && shift
    timeout --foreground --signal INT --kill-after 25 "$seconds" $HEARS "$@"
}

part_env() {
    limited 40 "$PYTHON" -P - "$DEVICE" <<'PY' | tee "$KEEP/machine.txt"
import importlib.metadata as found, platform, sys, torch
from stairs_core.models import devices
where = devices.device(sys.argv[1])
print(devices.hardware(where), platform.python_version(), torch.version.cuda)
for name in ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "pytest"):
    print(name, found.version(name))
PY
}

# Plugins are named one by one: another may warn, and a warning is an error here.
part_tests() {
    local plugins="-p xdist" folders
    "$PYTHON" -c "import pytest_timeout" 2>/dev/null && plugins="$plugins -p timeout --timeout 90"
    folders=${FOLDERS:-$(echo tests/{contract,decoding,drafters,forward,measuring,models,text,traces})}
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 limited 170 "$PYTHON" -P -m pytest \
        $plugins -p no:cacheprovider -n "$WORKERS" --dist worksteal \
        --device "$DEVICE" --tb=short -vv -rfEs $folders >"$OUT/tests.log" 2>&1
    local status=$?
    # The summary gives reasons; if it was not reached, the lines of the tests themselves.
    grep -E '^(FAILED|ERROR) ' "$OUT/tests.log" | cut -c1-230 >"$KEEP/tests-failed.txt"
    [ -s "$KEEP/tests-failed.txt" ] ||
        grep -E '\] (FAILED|ERROR) ' "$OUT/tests.log" | cut -c1-230 >"$KEEP/tests-failed.txt"
    head -n 60 "$KEEP/tests-failed.txt"
    grep -E '^SKIPPED' "$OUT/tests.log" | cut -c1-160 >"$KEEP/tests-skipped.txt"
    grep -vcE 'needs --slow' "$KEEP/tests-skipped.txt" | sed 's/$/ kinds of skips besides slow/'
    {
        grep -cE '\] PASSED ' "$OUT/tests.log" | sed 's/$/ passed/'
        grep -E '^=+ .* in [0-9.]+s' "$OUT/tests.log" | tail -n 1
    } | tee "$KEEP/tests.txt"
    return $status
}

part_strict() {
    limited 110 "$PYTHON" -P tests/scripts/strict_bits.py --device "$DEVICE" \
        --out "$KEEP/strict.json" 2>&1 | tee "$KEEP/strict.txt" | grep -v ' fast .*groups of'
    return "${PIPESTATUS[0]}"
}

part_bench() {
    limited 100 "$PYTHON" -P -m stairs_core bench --device "$DEVICE" --count 4 --repeats 1 \
        --ks 5 --max-new-tokens 48 --against transformers --json ${BENCH:-} \
        2>"$OUT/bench.log" | tee "$KEEP/bench.txt" | grep '^|'
    local status=${PIPESTATUS[0]}
    grep '^{' "$KEEP/bench.txt" >"$KEEP/bench.json"
    tr '\r' '\n' <"$OUT/bench.log" | tail -n 3
    # Interrupted at the limit, it has told what there was.
    [ "$status" -ne 1 ] && [ "$status" -ne 2 ] && grep -q '"races": [1-9]' "$KEEP/bench.json"
}

# Whether heads are trained there: a few steps on the bundled target's own text.
part_train() {
    local kind status=0
    mkdir -p "$OUT/corpus" && cp assets/prompts/heldout.txt "$OUT/corpus/"
    for kind in eagle medusa; do
        limited 45 "$PYTHON" -P -m stairs_core train head --kind $kind --target bundled \
            --corpus "$OUT/corpus" --out "$OUT/heads/$kind" --work "$OUT/work/$kind" --tokens 4096 \
            --length 64 --texts 8 --vocabulary 256 --device "$DEVICE" >"$OUT/train-$kind.log" 2>&1 ||
            { status=$?; tail -n 3 "$OUT/train-$kind.log"; }
    done
    return $status
}

part_race() {
    local prompt number=0 status=0
    for prompt in "Once upon a time" "The little fox had a key, and"; do
        number=$((number + 1))
        limited 30 "$PYTHON" -P -m stairs_core race --device "$DEVICE" --lanes none,model,eagle,hybrid \
            --prompt "$prompt" --max-new-tokens 96 --check --trace "$KEEP/race-$number.jsonl" \
            >"$KEEP/race-$number.txt" 2>"$OUT/race-$number.log" || status=$?
        cat "$KEEP/race-$number.txt"
        tail -n 2 "$OUT/race-$number.log"
    done
    return $status
}

for part in $PARTS; do
    began=$SECONDS
    echo "== $part"
    "part_$part"
    status=$?
    [ $status -eq 0 ] || FAILED=1
    echo "== $part: status $status, $((SECONDS - began)) s"
done
tar -czf "$OUT/numbers.tgz" -C "$OUT" numbers
exit $FAILED
