import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, sample
from lm_offload.sampling.penalties import penalise

PROMPT, OUTPUT = [1, 2, 2], [2, 3, 3, 3]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(8, generator=torch.Generator().manual_seed(0))


def test_repetition_is_that_of_transformers(logits):
    processor = RepetitionPenaltyLogitsProcessor(1.7)
    wanted = processor(torch.tensor([PROMPT + OUTPUT]), logits.clone().unsqueeze(0))[0]
    penalise(logits, SamplingParams(repetition_penalty=1.7), PROMPT, OUTPUT)
    assert torch.equal(logits, wanted)


def test_presence_counts_once_and_frequency_each_time_in_the_output_alone(logits):
    before = logits.clone()
    penalise(logits, SamplingParams(presence_penalty=0.5, frequency_penalty=0.25), PROMPT, OUTPUT)
    lowered = torch.zeros(8)
    lowered[2], lowered[3] = 0.5 + 0.25, 0.5 + 3 * 0.25
    assert torch.allclose(logits, before - lowered)


def test_penalties_change_greedy_choices_and_leave_the_logits_of_the_sweep(logits):
    favourite = int(logits.argmax())
    params = SamplingParams(presence_penalty=2.0, frequency_penalty=2.0)
    before = logits.clone()
    (token,) = sample(logits.unsqueeze(0), [Row(params, 0, [0], [favourite] * 9)])
    assert token != favourite
    assert torch.equal(logits, before)
