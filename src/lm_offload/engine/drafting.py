"""What drafts for an engine: nothing, the text itself, a draft model, or both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.draft_model import DraftModel
from lm_offload.engine.draft_plan import draft_request, gives_way
from lm_offload.engine.model_drafts import ModelDrafts
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import prepared
from lm_offload.engine.proposers import Lookups, Proposer
from lm_offload.engine.residents import LoadProgress
from lm_offload.engine.speculator import NO_DRAFTS, Drafts, Speculator
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Plan
from lm_offload.planner.choose.draft_rows import FORCED, cost_of
from lm_offload.planner.choose.verify_cost import free_cost
from lm_offload.planner.request import Request


@dataclass(frozen=True)
class DraftLoading:
    """How a draft model gets into memory."""

    files: ModelFiles
    kernels: Kernels
    on_load: LoadProgress
    on_quantize: LoadProgress

    def load(self, plan: Plan, vocab_size: int) -> DraftModel:
        """Convert what has to be, and load all of it; `vocab_size` is the big model's."""
        files = prepared(self.files, self.kernels.threads, self.on_quantize)
        machinery = build_cpu_machinery(files, plan, self.kernels, NullTrace(), True, self.on_load)
        return DraftModel(machinery, files.config, vocab_size)


def drafts_for(request: Request, plan: Plan, draft: DraftLoading | None) -> Drafts:
    """What drafts for an engine that runs `plan`; a draft model is loaded where the plan has it."""
    if request.speculation == "off" or not plan.draft_rows:
        return NO_DRAFTS
    forced = request.speculation in FORCED
    proposers: list[Proposer] = [] if request.speculation == "draft-model" else [Lookups()]
    if draft is not None and plan.draft is not None:
        cost = None if forced else cost_of(draft_request(draft.files, request), plan.draft)
        model = draft.load(plan.draft, request.config.vocab_size)
        worth = None if forced else partial(gives_way, draft.files, request, plan)
        proposers.append(ModelDrafts(model, cost, worth))
    return Speculator(plan, free_cost if forced else cost_of(request, plan), proposers)
