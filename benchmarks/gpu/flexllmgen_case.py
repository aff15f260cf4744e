"""FlexLLMGen on one case: its own OPT of about the same size, whose weights it makes up."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from typing import Any

from benchmarks.gpu.case import Case, answer

MODEL = "facebook/opt-6.7b"
RATE = re.compile(r"(prefill|decode) throughput: ([\d.]+) token/s")


def measure(case: Case) -> dict[str, Any]:
    """The rates that it prints, with a quarter of the weights on the GPU as a start."""
    version = importlib.metadata.version("flexllmgen")
    command = [
        *(sys.executable, "-m", "flexllmgen.flex_opt", "--model", MODEL, "--path", "_DUMMY_"),
        *("--prompt-len", str(case.prompt_len), "--gen-len", str(case.gen_len)),
        *("--gpu-batch-size", str(case.batch)),
        *("--percent", "25", "75", "100", "0", "100", "0"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {f"{phase}_tokens_per_s": float(rate) for phase, rate in RATE.findall(done.stdout)}
    if "decode_tokens_per_s" not in found:
        *_, last = done.stderr.strip().splitlines() or ["it printed no rate"]
        raise RuntimeError(last)
    return {"version": version, "model": MODEL, **found}


if __name__ == "__main__":
    answer(measure)
