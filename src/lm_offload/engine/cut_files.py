"""A model's files in the units of a plan: MLPs whole, or in two units each."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.halves import are_cut, cut_units
from lm_offload.arch.weights import Unit
from lm_offload.engine.model_files import ModelFiles
from lm_offload.plan import Plan
from lm_offload.storage.layout import UnitLayout
from lm_offload.storage.unit_parts import part_layout


def in_units_of(plan: Plan, files: ModelFiles) -> ModelFiles:
    """The same files, of which parts of units are read by themselves where the plan names them."""
    if not are_cut(plan.unit_names):
        return files
    cut = [
        (part, layout_of(files, number, part))
        for number, parts in enumerate(cut_units(files.config, files.units))
        for part in parts
    ]
    units, layouts = zip(*cut, strict=True)
    return replace(files, units=units, layouts=layouts)


def layout_of(files: ModelFiles, number: int, part: Unit) -> UnitLayout:
    """Where a unit lies, or a part of the unit of that number."""
    whole, layout = files.units[number], files.layouts[number]
    return layout if part == whole else part_layout(layout, whole, part)
