"""Text as it is generated, and a conversation where the model has a chat template.

::

    python examples/stream_and_chat.py            # the embedded demo model: streams a completion
    python examples/stream_and_chat.py FOLDER 8GiB
"""

import sys

from lm_offload import LLM, LMOffloadError, SamplingParams
from lm_offload.demo import demo_path

model, budget = sys.argv[1:3] if len(sys.argv) > 2 else (demo_path(), "12MiB")

with LLM(model, cpu_memory=budget) as llm:
    for piece in llm.stream("import json\n\n\ndef load(", SamplingParams(max_tokens=40)):
        print(piece, end="", flush=True)
    print()

    messages = [{"role": "user", "content": "Why is the sky blue? One sentence."}]
    try:
        (answer,) = llm.chat(messages, SamplingParams(max_tokens=60))
    except LMOffloadError as error:  # the demo model only completes code
        print(error)
    else:
        messages += [{"role": "assistant", "content": answer.text}]
        messages += [{"role": "user", "content": "And at sunset?"}]
        print(answer.text)
        prompt = llm.tokenizer.apply_chat_template(messages)
        for piece in llm.stream(prompt, SamplingParams(max_tokens=60)):
            print(piece, end="", flush=True)
        print()
