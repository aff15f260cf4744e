"""Puts what a plan keeps in host memory there, and finds the rows of embedding tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from lm_offload.engine.model_files import ModelFiles
from lm_offload.plan import Plan
from lm_offload.storage.arena import Arena
from lm_offload.storage.weight_store import Rows, WeightStore

LoadProgress = Callable[[int, int], None]  # bytes read so far, bytes to read


def load_resident(
    store: WeightStore, plan: Plan, files: ModelFiles, arena: Arena, on_load: LoadProgress
) -> None:
    """Read the units that stay in host memory into `arena`."""
    resident = set(plan.resident)
    wanted = [index for index, unit in enumerate(files.units) if unit.name in resident]
    wanted += [len(files.units)] if plan.table_resident and files.table_layout else []
    layouts = [*files.layouts, files.table_layout]
    homes, offset = {}, 0
    for index in wanted:
        layout = layouts[index]
        assert layout is not None
        homes[index] = arena.slice(offset, layout.size_bytes)
        offset += layout.size_bytes
    done_bytes = 0
    with closing(store.load(homes)) as counts:
        for count in counts:
            done_bytes += count
            on_load(done_bytes, offset)


def row_tables(store: WeightStore, plan: Plan, files: ModelFiles) -> dict[str, Rows]:
    """Where the rows of each embedding table come from."""
    tables: dict[str, Rows] = {}
    for spec in files.units[0].tables:
        if spec.role == "tokens" and files.head_is_table:
            heads = [index for index, unit in enumerate(files.units) if unit.kind == "head"]
            names = {files.units[index].name for index in heads}
            if names <= set(plan.resident):
                tables[spec.role] = store.resident_rows(heads, "head")
                continue
        elif plan.table_resident:
            tables[spec.role] = store.resident_rows([len(files.units)], spec.role)
            continue
        tables[spec.role] = store.row_table(files.units[0], spec.role)
    return tables
