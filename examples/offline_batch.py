"""Complete a batch of prompts with a model that is larger than its memory budget.

::

    python examples/offline_batch.py            # the embedded demo model in 12 MiB
    python examples/offline_batch.py FOLDER 8GiB
"""

import sys

from lm_offload import LLM, SamplingParams
from lm_offload.demo import demo_path

model, budget = sys.argv[1:3] if len(sys.argv) > 2 else (demo_path(), "12MiB")
prompts = ["def fibonacci(n):\n", "class Queue:\n    def __init__(self", "import json\n\n"]

with LLM(model, cpu_memory=budget) as llm:
    for output in llm.generate(prompts, SamplingParams(max_tokens=40)):
        print(f"--- {output.prompt!r}\n{output.text}")
    print(f"{llm.stats.decode_tokens_per_s:.1f} tokens/s, {llm.plan.streamed_bytes} bytes a sweep")
