"""Host memory of a plan: one mapping with an arena for each purpose, and what lies in some."""

from __future__ import annotations

from lm_offload.engine.machinery import floats, on_threads
from lm_offload.engine.model_files import ModelFiles
from lm_offload.hardware.numa import interleaved_nodes
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.recurrent_states import RecurrentStates, states_in
from lm_offload.models.base import Context
from lm_offload.models.workspace import Workspace
from lm_offload.plan import Plan
from lm_offload.storage.arena import Arena, MemoryTier

ARENAS = (  # what is read into again and again comes first: the last ones lie in small pages
    *("staging ring", "KV staging", "KV swap", "resident weights", "recurrent states"),
    *("kept states", "hidden states", "layer inputs", "inner rows", "expert inputs"),
    *("expert sums", "workspace", "logits", "KV cache"),
)


def arenas_of(plan: Plan) -> tuple[MemoryTier, dict[str, Arena]]:
    """The mapping and its arenas by name; the rest of it is for the KV cache."""
    planned = dict(plan.memory)
    sizes = {name: planned[name] for name in ARENAS if name in planned}
    tier = MemoryTier("CPU", sum(sizes.values()), interleaved_nodes())
    return tier, {name: tier.allocate(name, sizes[name]) for name in sizes if name != "KV cache"}


def context_of(
    files: ModelFiles, plan: Plan, kernels: Kernels, arenas: dict[str, Arena]
) -> Context:
    """What every unit computes with."""
    workspace = Workspace(floats(arenas["workspace"]))
    return Context(files.config, on_threads(kernels, plan), workspace)


def states_of(files: ModelFiles, plan: Plan, arenas: dict[str, Arena]) -> RecurrentStates | None:
    """Of recurrent layers, a slot for each sequence in flight, and those behind prefixes."""
    config, count = files.config, plan.kept_states
    if config.recurrent is None:
        return None
    kept = states_in(arenas["kept states"], config, count) if count else {}
    return RecurrentStates(states_in(arenas["recurrent states"], config, plan.lanes), kept)
