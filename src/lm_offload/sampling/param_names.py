"""Keywords of `SamplingParams` that it has not: what those of other libraries are called here."""

from __future__ import annotations

_TOKENS = "it is called max_tokens here"
_FORM = "it is called structured_outputs here, StructuredOutputs(json=...) for example"
_BEAMS = "there is no beam search; n and temperature give several completions"
ELSEWHERE = {
    "max_new_tokens": _TOKENS,
    "max_completion_tokens": _TOKENS,
    "n_predict": _TOKENS,
    "max_length": "max_tokens counts those of the output alone; give that",
    "min_new_tokens": "it is called min_tokens here",
    "do_sample": "a temperature above 0 samples, 0 is greedy; give that",
    "num_return_sequences": "it is called n here",
    "best_of": "completions are not ranked; give n and choose by cumulative_logprob",
    "use_beam_search": _BEAMS,
    "beam_width": _BEAMS,
    "num_beams": _BEAMS,
    "length_penalty": _BEAMS,
    "early_stopping": _BEAMS,
    "repeat_penalty": "it is called repetition_penalty here",
    "typical_p": "it is not taken; top_p and min_p leave unlikely tokens out",
    "stop_strings": "it is called stop here",
    "eos_token_id": "it is called stop_token_ids here",
    "guided_decoding": _FORM,
    "guided_json": _FORM,
    "response_format": _FORM,
    "grammar": _FORM,
    "logits_processors": "functions are not taken; logit_bias, bad_words and allowed_token_ids are",
    "logits_processor": "functions are not taken; logit_bias, bad_words and allowed_token_ids are",
    "detokenize": "texts are decoded when they are asked for; leave it out",
    "output_kind": "generate_each and stream give outputs as they come; leave it out",
    "spaces_between_special_tokens": "transformers has no such choice any more; leave it out",
}
