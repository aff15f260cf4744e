"""From logits to tokens: parameters, penalties, draws and log probabilities."""

from lm_offload.sampling.params import SamplingParams

__all__ = ["SamplingParams"]
