"""How far attention over a quantized cache may be from exact: what its roundings can change.

Beside the codes of the cache, native kernels round each query to multiples of a step and the
weights of softmax, times the scales of the values, to multiples of one for every 64 positions
(csrc/attention_packed.h). To first order an output changes by its derivative times up to half a
step for each number that is rounded: by their sum if all of them go the same way, by the root of
the sum of a third of their squares if they know nothing of one another.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.quant.kv_format import GROUP_CHANNELS
from tests.kernels.packed_cache import PackedInputs
from tests.kernels.paged import AttendedRow, attended_rows

WEIGHT_TOKENS = 64  # whose weights have one step
WEIGHT_BITS = {"int8": 15, "int4": 8}
FLOAT_ERROR = 1e-5  # of sums in float32 whose terms are about one


class RoundingError(NamedTuple):
    """Of every output, [rows, heads, head_dim] or parts of them."""

    most: Tensor
    variance: Tensor

    def __add__(self, other: RoundingError) -> RoundingError:  # type: ignore[override]
        return RoundingError(self.most + other.most, self.variance + other.variance)


def rounding_error(
    inputs: PackedInputs,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> RoundingError:
    """How far outputs may be from those of the values that the codes stand for."""
    q, name = inputs.floats.q, inputs.keys.format.name
    error = RoundingError(torch.full_like(q, FLOAT_ERROR), torch.full_like(q, FLOAT_ERROR**2))
    for row in attended_rows(inputs.floats, scale, window, softcap, sinks):
        of_queries = _of_queries(row, q[row.row].double(), scale, softcap, name)
        for total, part in zip(error, of_queries + _of_weights(row, name), strict=True):
            total[row.row] += part
    return error


def _of_terms(terms: Tensor) -> RoundingError:
    """Of terms [..., terms] that are between less and more than this."""
    return RoundingError(terms.abs().sum(-1), terms.square().sum(-1) / 3)


def _of_queries(
    row: AttendedRow, q: Tensor, scale: float, softcap: float | None, name: str
) -> RoundingError:
    """[heads, head_dim], from half a step in every channel of a query."""
    step = q.abs().amax(-1) / _query_limit(name, q.shape[-1])
    slope = 1.0 if softcap is None else 1 - torch.tanh(row.scores / softcap).square()
    by_score = (row.weights * slope).T[:, :, None] * (row.v - row.out)  # [seen, heads, head_dim]
    by_channel = torch.einsum("thd,thc->hdc", by_score, row.k) * scale
    return _of_terms(by_channel * step[:, None, None] / 2)


def _query_limit(name: str, head_dim: int) -> float:
    """What the largest channel of a query is rounded to (csrc/kv_products.h)."""
    return 68.0 if name == "int4" else min(32767.0, (2**31 - 1) // (128 * head_dim))


def _of_weights(row: AttendedRow, name: str) -> RoundingError:
    """[heads, head_dim], from half a step in every weight; a whole one in the largest."""
    size = GROUP_CHANNELS if name == "int4" else row.v.shape[-1]
    parts = [_of_group(row, v, name) for v in row.v.split(size, dim=-1)]
    most, variance = (torch.cat(halves, dim=-1) for halves in zip(*parts, strict=True))
    return RoundingError(most, variance)


def _of_group(row: AttendedRow, v: Tensor, name: str) -> RoundingError:
    """The same of channels v[seen, heads, channels] that have one scale."""
    low, levels = (v.amin(-1), 15) if name == "int4" else (torch.zeros_like(v[..., 0]), 127)
    scales = (v - low[..., None]).abs().amax(-1) / levels
    codes = (v - low[..., None]) / scales.clamp(min=1e-30)[..., None]
    scaled = row.weights.T * scales  # [seen, heads]
    errors = torch.cat([_of_one_step(part, name) for part in scaled.split(_part_sizes(row))])
    return _of_terms((errors[..., None] * codes).movedim(0, -1))


def _of_one_step(scaled: Tensor, name: str) -> Tensor:
    """Of weights [positions, heads] with one step: fewer than 2^bits of it are the largest."""
    most = scaled.amax(0)
    step = most * 2.0 ** (1 - WEIGHT_BITS[name])
    return torch.where(scaled > most - step, step, torch.minimum(step / 2, scaled))


def _part_sizes(row: AttendedRow) -> list[int]:
    """Of the positions that a row sees, cut where steps begin."""
    stop = row.first + len(row.v)
    cuts = [it for it in range(0, stop, WEIGHT_TOKENS) if it > row.first]
    ends = [row.first, *cuts, stop]
    return [end - begin for begin, end in pairwise(ends)]
