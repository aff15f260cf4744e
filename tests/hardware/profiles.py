"""Small profiles, and strategies that draw any."""

from __future__ import annotations

from hypothesis import strategies as st

from lm_offload.hardware.attention_rates import HeadShape, rate_key
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.disk_probe import LATENCY, PREFERRED
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.link import Link
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.measured_work import OPERATIONS, THREADED_WORK
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile, Interference

TINY_EFFORT = Effort(
    name="tiny",
    seconds=0.05,
    rows=(1, 4),
    contexts=(16,),
    shapes=(HeadShape(64, 4),),
    other_shapes=(),
    ways=(PREFERRED, LATENCY),
    packed_formats=(),
    other_formats=(),
    file_bytes=1 << 20,
)

positive = st.floats(1e-12, 1e30)
at_least_zero = st.just(0.0) | positive
shares = st.floats(1e-6, 1.0)
formats = st.sampled_from(
    ["bf16", "fp32", "int8:64", "int8:row", "int4:32", "int4:128:sym", "int4:64:a8", "mxfp4"]
)
head_shapes = st.builds(HeadShape, st.integers(1, 256), st.integers(1, 64))
texts = st.text(max_size=20)


@st.composite
def curves(draw: st.DrawFn, rates: st.SearchStrategy[float] = positive) -> Curve:
    sizes = sorted(
        draw(
            st.sets(
                st.floats(1e-3, 1e12) | st.integers(1, 1 << 40).map(float), min_size=1, max_size=5
            )
        )
    )
    return Curve(tuple(sizes), tuple(draw(rates) for _ in sizes))


def by_format(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.dictionaries(formats, values, max_size=3)


links = st.builds(
    Link,
    bytes_per_s=curves(),
    request_s=at_least_zero,
    block_s=at_least_zero,
    block_bytes=st.integers(0, 1 << 30),
    concurrency=st.integers(1, 64),
    first_bytes_per_s=at_least_zero,
    few_readers=st.integers(0, 64),
    small_pages_frac=shares,
    burst_bytes_per_s=st.none() | curves(),
    rows_bytes_per_s=st.none() | curves(),
    pieces_bytes_per_s=st.none() | curves(),
    opposed_frac=st.none() | curves(shares),
)
attention = st.dictionaries(
    formats | st.builds(rate_key, formats, head_shapes), curves(), max_size=3
)
processors = st.builds(
    Processor,
    threads=st.integers(1, 512),
    memory_bytes=st.integers(1, 1 << 50),
    memory_bytes_per_s=positive,
    peak_flops=positive,
    kernel_s=at_least_zero,
    memory_start_s=at_least_zero,
    cached_start_s=at_least_zero,
    task_s=at_least_zero,
    tiny_task_s=at_least_zero,
    joined_task_s=st.none() | positive,
    call_s=at_least_zero,
    sweep_s=at_least_zero,
    sequence_s=at_least_zero,
    prompt_s=at_least_zero,
    sweep_by_bytes_s=st.none() | curves(),
    sampled_values_per_s=at_least_zero,
    cache_bytes=st.integers(0, 1 << 40),
    cache_bytes_per_s=st.none() | curves(),
    state_values_per_s=st.none() | curves(),
    elementwise_bytes_per_s=at_least_zero,
    operation_bytes_per_s=st.dictionaries(st.sampled_from(OPERATIONS), curves(), max_size=2),
    product_flops=by_format(curves()),
    cached_product_flops=by_format(curves()),
    product_input_s=by_format(positive),
    product_output_s=by_format(positive),
    decode_attention_bytes_per_s=attention,
    prefill_attention_flops=attention,
    quantize_values_per_s=by_format(positive),
    dequantize_values_per_s=by_format(positive),
    memory_by_threads_bytes_per_s=st.none() | curves(),
    thread_speedup=st.dictionaries(st.sampled_from(THREADED_WORK), curves(), max_size=2),
)
profiles = st.builds(
    HardwareProfile,
    name=texts,
    source=texts,
    cpu=processors,
    disk_bytes=st.integers(1, 1 << 50),
    disk_read=links,
    disk_write=links,
    gpu=st.none() | processors,
    h2d=st.none() | links,
    d2h=st.none() | links,
    host_copy=st.none() | links,
    d2h_pageable=st.none() | links,
    h2d_staged=st.none() | links,
    interference=st.builds(Interference, shares, shares),
    link_interference=st.builds(
        LinkInterference, *[shares] * 5, compute_while_uploading_frac=st.none() | shares
    ),
    disturbed_frac=st.just(0.0) | shares,
    fingerprint=st.dictionaries(texts, texts, max_size=3).map(lambda pairs: tuple(pairs.items())),
)
