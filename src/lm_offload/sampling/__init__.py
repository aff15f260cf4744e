"""From logits to tokens: parameters, penalties, draws and log probabilities."""

from lm_offload.sampling.params import SamplingParams
from lm_offload.sampling.structured_outputs import StructuredOutputs

__all__ = ["SamplingParams", "StructuredOutputs"]
