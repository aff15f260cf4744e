"""Who computes which rows: against a plain loop over rows and their choices."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kernels.expert_choice import Choice
from lm_offload.pipeline.expert_functions import rows_by_expert


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 6), st.data())
def test_rows_are_found_by_expert_in_order(rows_of_batches, num_experts, data):
    per_token = data.draw(st.integers(1, num_experts))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    choices = []
    for rows in rows_of_batches:
        scales, experts = torch.rand(rows, num_experts, generator=generator).topk(per_token)
        choices.append(Choice(experts, scales))
    whole = Choice(*(torch.cat(parts) for parts in zip(*choices, strict=True)))
    found = rows_by_expert(whole, num_experts)
    wanted: dict[int, list[tuple[int, float]]] = {}
    row = 0
    for choice in choices:
        for experts, scales in zip(choice.experts.tolist(), choice.scales.tolist(), strict=True):
            for expert, scale in zip(experts, scales, strict=True):
                wanted.setdefault(expert, []).append((row, scale))
            row += 1
    assert list(found) == sorted(wanted)
    for expert, pairs in wanted.items():
        rows, scales = found[expert]
        assert list(zip(rows.tolist(), scales.tolist(), strict=True)) == pairs
