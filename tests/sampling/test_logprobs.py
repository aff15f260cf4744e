import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.sampling.logprobs import logprobs_of


@given(st.integers(0, 99), st.integers(1, 9), st.integers(0, 5))
def test_chosen_and_likeliest_tokens_with_their_ranks(seed, rows, count):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 12, generator=generator)
    chosen = torch.randint(12, (rows,), generator=generator).tolist()
    table = logits.double().log_softmax(-1)
    for row, found in enumerate(logprobs_of(logits, chosen, count)):
        order = table[row].argsort(descending=True).tolist()
        assert set(found) == {*order[:count], chosen[row]}
        for token, entry in found.items():
            assert entry.rank == order.index(token) + 1
            assert abs(entry.logprob - float(table[row, token])) < 1e-5
