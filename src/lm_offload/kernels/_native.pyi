"""The native operations on addresses (csrc/bindings.cpp); they check nothing, see native_kernels.

Addresses are integers, strides count elements, dtypes are the codes of csrc/types.h.
"""

from collections.abc import Sequence

# Address, row stride (0 where packed), dtype and rows of a weight; address and dtype of its
# bias; address and row stride of the output.
Product = tuple[int, int, int, int, int, int, int, int]
MOST_PRODUCTS: int  # of one call, at least one
MOST_TAPS: int  # of a convolution
MOST_KEY_DIM: int  # of a recurrent state
Heads = tuple[int, int, int]  # address, row stride, head stride
Vector = tuple[int, int]  # address and dtype
Sequences = tuple[int, int, int, int]  # query starts, contexts, slots; how many there are
# Arguments of the operations of these names but the threads.
Convolution = tuple[
    int, int, int, int, int, int, int, int, int, int, Sequences, int, int, int, int, int
]
Delta = tuple[
    int, int, Heads, Heads, Vector, Vector, int, int, Sequences, int, int, int, int, int, int
]
Scan = tuple[
    int, int, int, int, Vector, Vector, Vector, float, float, int, int, Sequences,
    int, int, int, int, int, int,
]  # fmt: skip
Groups = tuple[int, int, int]  # how many, those used, whose best are summed
# Bits (0 where it is not packed), dtype, row stride, group, symmetry, whether codes are floats,
# bits of inputs.
ExpertMatrix = tuple[int, int, int, int, bool, bool, int]
EXPERT_ADDRESSES: int  # of an expert: gate, up, down and their biases
USE_FLOATS: int  # of scratch memory for each row of a product, beside what it makes
Rotation = tuple[int, int, int, int, int, int, int, int, int, int]
Stored = tuple[int, int, int, int, int, int, "Cache", int, int]
Attention = tuple[
    int, int, int, "Cache", int, int, int, int, int, int,
    float, int, float, int, int, int, int, int,
]  # fmt: skip

class Cache:
    """The layout of a paged KV cache, as `cache` makes it."""

class Operations:
    """Every operation compiled for one instruction set."""

    @property
    def name(self) -> str: ...
    @property
    def rounds_inputs(self) -> bool: ...
    def linear(
        self,
        x: int,
        x_stride: int,
        m: int,
        k: int,
        products: Sequence[Product],
        accumulate: bool,
        threads: int,
        /,
    ) -> None: ...
    def packed_linear(
        self,
        x: int,
        x_stride: int,
        m: int,
        k: int,
        bits: int,
        group: int,
        symmetric: bool,
        floats: bool,
        input_bits: int,
        products: Sequence[Product],
        accumulate: bool,
        threads: int,
        /,
    ) -> None: ...
    def rms_norm(
        self,
        x: int,
        x_stride: int,
        weight: int,
        weight_dtype: int,
        weight_offset: float,
        eps: float,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def bare_norm(
        self,
        x: int,
        x_stride: int,
        eps: float,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def layer_norm(
        self,
        x: int,
        x_stride: int,
        weight: int,
        weight_dtype: int,
        bias: int,
        bias_dtype: int,
        eps: float,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def rotary(
        self,
        x: int,
        row_stride: int,
        head_stride: int,
        cos: int,
        cos_stride: int,
        sin: int,
        sin_stride: int,
        rows: int,
        heads: int,
        half: int,
        threads: int,
        /,
    ) -> None: ...
    def store_kv(
        self,
        k: int,
        k_stride: int,
        k_head_stride: int,
        v: int,
        v_stride: int,
        v_head_stride: int,
        cache: Cache,
        slots: int,
        rows: int,
        threads: int,
        /,
    ) -> None: ...
    def attention(
        self,
        q: int,
        q_stride: int,
        q_head_stride: int,
        cache: Cache,
        query_starts: int,
        context_lens: int,
        block_tables: int,
        table_stride: int,
        sequences: int,
        heads: int,
        scale: float,
        window: int,
        softcap: float,
        sinks: int,
        sinks_dtype: int,
        out: int,
        out_stride: int,
        out_head_stride: int,
        threads: int,
        /,
    ) -> None: ...
    def silu_mul(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def gelu_tanh_mul(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def sigmoid_mul(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def relu(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def multiply(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def add(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def scale(
        self,
        x: int,
        x_stride: int,
        factor: int,
        dtype: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def causal_convolution(
        self,
        x: int,
        x_stride: int,
        group_stride: int,
        weight: int,
        weight_dtype: int,
        bias: int,
        bias_dtype: int,
        state: int,
        slot_stride: int,
        tap_stride: int,
        rows: Sequences,
        groups: int,
        channels: int,
        taps: int,
        out: int,
        out_stride: int,
        threads: int,
        /,
    ) -> None: ...
    def plain_convolution(
        self,
        x: int,
        x_stride: int,
        group_stride: int,
        weight: int,
        weight_dtype: int,
        bias: int,
        bias_dtype: int,
        state: int,
        slot_stride: int,
        tap_stride: int,
        rows: Sequences,
        groups: int,
        channels: int,
        taps: int,
        out: int,
        out_stride: int,
        threads: int,
        /,
    ) -> None: ...
    def gated_delta(
        self,
        x: int,
        x_stride: int,
        rates: Heads,
        decays: Heads,
        decay_log: Vector,
        decay_bias: Vector,
        state: int,
        slot_stride: int,
        rows: Sequences,
        key_heads: int,
        heads: int,
        key_dim: int,
        value_dim: int,
        out: int,
        out_stride: int,
        threads: int,
        /,
    ) -> None: ...
    def choose_experts(
        self,
        scores: int,
        stride: int,
        rows: int,
        experts: int,
        sharpness: float,
        sigmoids: bool,
        bias: Vector,
        factors: Vector,
        groups: Groups,
        used: int,
        to_one: bool,
        added_to_sum: float,
        scale: float,
        chosen: int,
        scales: int,
        /,
    ) -> None: ...
    def choose_close(
        self,
        scores: int,
        stride: int,
        rows: int,
        experts: int,
        margin: float,
        used: int,
        chosen: int,
        scales: int,
        /,
    ) -> None: ...
    def weigh_rows(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def clear_rows(
        self,
        gate: int,
        gate_stride: int,
        up: int,
        up_stride: int,
        out: int,
        out_stride: int,
        rows: int,
        width: int,
        threads: int,
        /,
    ) -> None: ...
    def add_experts(
        self,
        table: int,
        span: tuple[int, int],
        choices: tuple[int, int, int, int],
        x: int,
        x_stride: int,
        out: int,
        out_stride: int,
        width: int,
        inner: int,
        wide: ExpertMatrix,
        narrow: ExpertMatrix,
        bias_dtype: int,
        activation: int,
        limit: float,
        slope: float,
        scales_inputs: bool,
        scratch: tuple[int, int],
        count: int,
        threads: int,
        /,
    ) -> None: ...
    def selective_scan(
        self,
        x: int,
        x_stride: int,
        steps: int,
        steps_stride: int,
        decay_log: Vector,
        step_bias: Vector,
        skip: Vector,
        least_step: float,
        most_step: float,
        state: int,
        slot_stride: int,
        rows: Sequences,
        key_heads: int,
        heads: int,
        key_dim: int,
        value_dim: int,
        out: int,
        out_stride: int,
        threads: int,
        /,
    ) -> None: ...
    def quantize(
        self,
        x: int,
        dtype: int,
        x_stride: int,
        bits: int,
        group: int,
        symmetric: bool,
        floats: bool,
        out: int,
        rows: int,
        columns: int,
        threads: int,
        /,
    ) -> bool: ...
    def linear_scratch_bytes(self, m: int, n: int, k: int, threads: int, /) -> int: ...
    def read(self, data: int, nbytes: int, threads: int, /) -> None: ...

class Program(Operations):
    """Carries out operations of a table and writes them down, to be carried out again.

    What their addresses point to must stay where it is; weights and KV cache may lie as many bytes
    further as a replay says.
    """

    def __init__(self, operations: Operations, /) -> None: ...
    def replay(self, weights_shift: int, cache_shift: int, /) -> None: ...

def packed_scratch_bytes(columns: int, /) -> int: ...
def cache(
    keys: int,
    values: int,
    dtype: int,
    bits: int,
    block_stride: int,
    head_stride: int,
    kv_heads: int,
    head_dim: int,
    /,
) -> Cache: ...
def best_operations() -> Operations: ...
def rejected_operations() -> list[str]: ...
def all_operations() -> list[Operations]: ...
def agrees(operations: Operations, reference: Operations, /) -> bool: ...
def spread_workers(groups: list[list[int]], /) -> None: ...
