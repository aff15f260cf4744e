"""Made-up rows of every benchmark, as its result file has them."""

from __future__ import annotations

BED = {
    "cpu": "C", "cores": 2.0, "isa": ["avx2"], "memory_bytes": 2**34,
    "kernel": "6.1-x", "torch": "2",
}  # fmt: skip


def peer_row(peer, batch, limit_bytes, rate, **other):
    return {
        "peer": peer, "model": "m", "batch": batch, "prompt_len": 8, "gen_len": 6, "threads": 2,
        "limit_bytes": limit_bytes, "weight_format": None, "weight_bytes": 2**31,
        "decode_tokens_per_s": rate, "decode_tokens_per_s_runs": [rate * 0.9, rate * 1.1],
        "prefill_tokens_per_s": rate, "decode_ceiling_frac": 0.5, "prefill_ceiling_frac": 0.25,
        **other,
    }  # fmt: skip


def made_up():
    peers = [
        peer_row(peer, batch, limit, batch + 1.0)
        for peer in ("lm_offload", "<other>")
        for batch in (1, 16)
        for limit in (2**30, None)
    ]
    peers.append({**peer_row("broken", 1, None, 0.0), "error": "killed | by\nmemory"})
    rates = {"prefill_tokens_per_s": 10.0, "decode_tokens_per_s": 2.0}
    points = [
        {"key": "p", "weight_format": "own", "measured": rates, "predicted": rates},
        {"key": "q", "weight_format": "own", "skipped": "no plan fits the budget"},
    ]
    product = {
        "operation": "linear",
        "gbytes_per_s": 20.0,
        "read_frac": 0.6,
        "over_torch_int4": None,
    }
    quality = {"bytes_per_weight": 2.0, "perplexity": 30.0, "mean_kl": None}
    both = dict.fromkeys(("apart", "shared", "computed", "read"), 1.0)
    task = {"kind": "read", "name": "read u", "sweep": 4, "start_us": 0.0, "duration_us": 5.0}
    files = {
        "peers": {"rows": peers},
        "prediction": {"rows": points, "summary": {}},
        "kernels": {
            "ceilings": {"read_bytes_per_s": 3e10, "sgemm_flops_per_s": 1.5e11},
            "rows": [
                {**product, "format": name, "m": m, "gflops_per_s": m * 20.0, "over_own_bf16": 1.0,
                 "over_torch_bf16": 2.0}
                for name in ("bf16", "int4:64") for m in (1, 16)
            ],
        },
        "quality": {"rows": [
            {**quality, "weight_format": "bf16", "kv_format": kv, "perplexity_over_reference": loss}
            for kv, loss in (("bf16", 1.0), ("int8:row", 1.01))
        ]},
        "attention": {
            "ceilings": {"read_bytes_per_s": 3e10, "sgemm_flops_per_s": 1.5e11},
            "rows": [
                {"format": name, "case": {"heads": 4, "kv_heads": 2, "head_dim": 8, "rows": 1,
                 "sequences": 2, "context": 64}, "gbytes_per_s": 9.0, "gflops_per_s": 20.0,
                 "over_bf16": speed, "time_s": 1e-3, "read_frac": 0.5}
                for name, speed in (("bf16", 1.0), ("int8", 1.6))
            ],
        },
        "published": {"rows": [
            {"table": "T", "model": "m", "system": "s", "published_tokens_per_s": 2.0,
             "predicted_tokens_per_s": 1.9, "error_frac": -0.05, "goal_frac": goal,
             "policy_from": kind}
            for goal, kind in ((0.2, "published"), (None, "published"), (None, "inferred"))
        ]},
        "streaming": {"rows": [
            {"batch": 4, "weight_bytes": 2e9, "row_gathered_bytes": 1e8, "decode_tokens_per_s": 8.0,
             "read_bytes_per_sweep": 1e9, "expected_read_bytes": 1e9, "resident_sweep_s": 0.1,
             "streamed_sweep_s": 0.5, "disk_bytes_per_s": 2e9, "memory_read_bytes_per_s": 2e10,
             "product_flops_per_s": 1e11, "ratio_to_bound": 1.0},
        ]},
        "threads": {"rows": [{
            "case": "int4-streamed-long", "batch": 4, "context": 64, "loss": 1.02,
            "loss_interval": [0.98, 1.1], "speedup_over_default": 1.3, "rounds": 5,
            "chosen": {"compute": 2, "readers": 1},
            "settings": [
                {"compute": compute, "readers": 1, "attention": 1, "sampling": 1, "sweep_s": 0.1}
                for compute in (1, 2)
            ],
        }]},
        "long-context": {"rows": [{
            "model": "m", "batch": 2, "context": 64, "kv_format": "bf16", "kv_bytes": 200,
            "kv_memory_bytes": 100, "kv_read_bytes": 1e9, "disk_bytes_per_s": 2e9,
            "resident_sweep_s": 0.4, "spilled_sweep_s": 0.6, "predicted_sweep_s": 0.55,
            "spilled_sweep_s_runs": [0.58, 0.6, 0.7], "bound_frac": 0.83, "same_tokens": True,
        }]},
        "speculation": {"rows": [{
            "model": "m", "prompts": "code", "budget_bytes": 1, "streamed_bytes": 1, "speedup": 1.5,
            "speedup_interval": [1.4, 1.6], "never_accepted_slowdown": 1.25, "draft_speedup": 1.1,
            "draft_never_right_slowdown": 1.0, "rounds": 5,
            "auto": {"tokens": 30, "sweeps": 15, "drafted": 20, "accepted": 15},
        }]},
        "prefix": {"rows": [
            {"model": "m", "weight_format": "own", "prompts": 64, "prefix_len": 1024,
             "tail_len": 16, "times_sooner": 20.0, "read_times_sooner": 8.0, "same_tokens": True,
             "last_first_token_s": both, "one_prompt_first_token_s": both, "kv_blocks": both},
        ]},
        "retention": {"rows": [
            {"model": "m", "batch": 1, "speedup": 1.2, "speedup_interval": [1.1, 1.3],
             "rounds": 8, "read_bytes": 100, "read_without_bytes": 130},
            {"model": "m", "batch": 16, "note": "this plan lends no KV memory"},
        ]},
        "planning": {"rows": [
            {"command": "plan", "model": "m", "machine": "t4", "batch": batch, "gpu_memory": "a",
             "cpu_memory": "b", "formats": "own", "search_s": 0.4, "command_s": 1.7,
             "command_s_runs": [1.6, 1.7, 1.9], "start_s": 0.5}
            for batch in (16, "any")
        ]},
        "trace": {"rows": [{**task, "resource": "disk_read"}, {**task, "resource": "cpu"}]},
    }  # fmt: skip
    return {name: {"benchmark": name, "testbed": BED, **data} for name, data in files.items()}
