"""Keywords of `LLM` and its calls that these have not: what other libraries' are called here."""

from __future__ import annotations

from dataclasses import fields

from lm_offload.sampling import SamplingParams

_DEVICES = "several GPUs take a part of the layers each; name them, as in device='cuda:0,cuda:1'"
_FORMAT = "weights stay as they are stored; give weight_format ('int8', 'int4:64') for others"
_PLANNED = "it is planned from the prompts of a call; leave it out, or give load() a Workload"
_MEMORY = "cpu_memory and gpu_memory ('6GiB') are all that each may hold; give these"
_CHECKPOINT = "the checkpoint's own is taken; leave it out"
_LOCAL = "models are local, a folder or a hub id that was downloaded before; leave it out"
_NOTHING = "there is nothing to switch; leave it out"
ELSEWHERE = {
    "tensor_parallel_size": _DEVICES,
    "pipeline_parallel_size": _DEVICES,
    "data_parallel_size": "start a process for each copy of the model; leave it out",
    "gpu_memory_utilization": _MEMORY,
    "cpu_offload_gb": _MEMORY,
    "device_map": _MEMORY,
    "n_gpu_layers": _MEMORY,
    "kv_cache_memory_bytes": _MEMORY,
    "swap_space": "what does not fit of the KV cache may lie on disk; name a folder as spill_dir",
    "offload_folder": "weights are read from where they lie; leave it out",
    "dtype": _FORMAT,
    "torch_dtype": _FORMAT,
    "quantization": _FORMAT,
    "quantization_config": _FORMAT,
    "load_in_8bit": _FORMAT,
    "load_in_4bit": _FORMAT,
    "kv_cache_dtype": "it is called kv_format ('int8', 'int4') here",
    "max_model_len": _PLANNED,
    "max_num_seqs": _PLANNED,
    "max_num_batched_tokens": _PLANNED,
    "max_seq_len_to_capture": _PLANNED,
    "n_ctx": _PLANNED,
    "block_size": _PLANNED,
    "enable_chunked_prefill": _NOTHING,
    "enforce_eager": _NOTHING,
    "disable_log_stats": _NOTHING,
    "disable_custom_all_reduce": _NOTHING,
    "attn_implementation": _NOTHING,
    "enable_prefix_caching": "it is called prefix_sharing here, and on by default",
    "speculative_config": "drafts are made by speculation and draft_model; give these",
    "n_threads": "it is called threads here",
    "model_path": "it is called model here",
    "seed": "requests have it; give it to SamplingParams",
    "trust_remote_code": "code of a checkpoint is never run; leave it out",
    "tokenizer": _CHECKPOINT,
    "tokenizer_mode": _CHECKPOINT,
    "tokenizer_revision": _CHECKPOINT,
    "hf_overrides": _CHECKPOINT,
    "revision": _LOCAL,
    "download_dir": _LOCAL,
    "hf_token": _LOCAL,
    "enable_lora": "adapters are not taken; merge them into their model first",
    "guided_decoding_backend": "requests have a form; give SamplingParams structured_outputs",
    "structured_outputs_config": "requests have a form; give SamplingParams structured_outputs",
}
_PARAMS = "it is a field of SamplingParams; give it there"
OF_CALLS = {
    "lora_request": "adapters are not taken; merge them into their model first",
    "prompt_token_ids": "give token ids as prompts, as they are",
    "guided_options_request": "requests have a form; give SamplingParams structured_outputs",
    "priority": "requests come in their order; leave it out",
    "max_new_tokens": "it is called max_tokens in SamplingParams",
    **dict.fromkeys((one.name for one in fields(SamplingParams)), _PARAMS),
}
