"""What other engines print or answer: logs and JSON, as recorded or documented."""

from __future__ import annotations

# As vLLM's documentation of acceptance_metrics has it; `detailed`.
DETAILED = {
    "id": "chatcmpl-1",
    "model": "Qwen/Qwen3-8B",
    "choices": [{"index": 0, "message": {"content": "task 0 | accepted 9/9 draft tokens"}}],
    "usage": {"prompt_tokens": 42, "completion_tokens": 10, "total_tokens": 52},
    "metrics": {
        "time_to_first_token_ms": 85.2,
        "speculative_decoding": {
            "mean_acceptance_length": 2.0,
            "draft_acceptance_rate": 0.375,
            "acceptance_histogram": [2, 0, 0, 1],
            "num_spec_steps": 3,
            "num_accepted_draft_tokens": 3,
            "num_draft_tokens": 8,
            "num_spec_tokens": 3,
            "per_step_accepted": [0, 3, 0],
            "per_step_drafted": [3, 3, 2],
        },
    },
}  # fmt: skip
SUMMARY = {"metrics": {"speculative_decoding": {
    k: v for k, v in DETAILED["metrics"]["speculative_decoding"].items() if "per_step" not in k
}}}  # fmt: skip
STATISTICS = (
    "statistics ngram_simple: #calls = 15, #gen drafts = 5, #acc drafts = 5, #gen tokens = 187, "
    "#acc tokens = 73\n"
    "statistics draft: #calls = 10, #gen drafts = 10, #acc drafts = 10, #gen tokens = 110, "
    "#acc tokens = 98\n"
)
SLOT = "0.06.{i:03}.980 I slot update_slots: id  1 | task {task} | "
TRACED = (  # LLAMA_TRACE=1 -v: the same steps are told three times, and the last of a text twice
    "0.05.1 I srv    load_model: loading model 'ggml-org/Qwen3.gguf'\n"
    + SLOT.format(i=1, task=0) + "accepted  3/ 5 draft tokens\n"
    + SLOT.format(i=2, task=0) + "add accepted tokens: sampled=12, ids.size=4, n_draft=5\n"
    + SLOT.format(i=3, task=0) + "accepted 3/5 draft tokens, new n_tokens = 741\n"
    + "\x1b[32m" + SLOT.format(i=4, task=0) + "accepted 16/16 draft tokens\x1b[0m\n"
    + SLOT.format(i=5, task=0) + "add accepted tokens: sampled=13, ids.size=17, n_draft=16\n"
    + "slot print_timing: id  1 | task 0 | draft acceptance = 0.9 (   19 accepted /    21 "
    "generated), mean len =  2.92\n"
    + SLOT.format(i=7, task=9) + "accepted  2/ 5 draft tokens (restore checkpoint)\n"
    + SLOT.format(i=8, task=9) + "accepted  3/ 3 draft tokens\n"
)  # fmt: skip
VERBOSE = "".join(
    line + "\n"
    for line in TRACED.splitlines()
    if "draft tokens" not in line or "new n_tokens" in line
)
SIMPLE = "accepted 4/8 draft tokens, the last target token is: (99)\n" * 2
V0 = (
    "INFO 10-16 19:05:47 metrics.py:367] Speculative metrics: Draft acceptance rate: 0.642, System "
    "efficiency: 0.515, Number of speculative tokens: 4, Number of accepted tokens: {}, Number of "
    "draft tokens: {}, Number of emitted tokens: 8565.\n"
)
SGLANG = {  # /generate, in 2026
    "id": "9d0f",
    "completion_tokens": 106,
    "spec_accept_rate": 0.2930232558139535,
    "spec_accept_length": 2.4651162790697674,
    "spec_num_correct_drafts": 63,
    "spec_num_proposed_drafts": 215,
    "spec_verify_ct": 43,
    "spec_correct_drafts_histogram": [11, 14, 11, 4, 0, 3],
}
SGLANG_2025 = {
    "completion_tokens": 200,
    "spec_verify_ct": 188,
    "spec_accept_token_num": 11,
    "spec_draft_token_num": 940,
}
MLX_VLM = {
    "predicted_n": 111,
    "draft_kind": "mtp",
    "draft_rounds": 30,
    "draft_n": 90,
    "draft_n_accepted": 81,
}
