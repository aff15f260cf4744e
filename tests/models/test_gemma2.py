from dataclasses import replace

import pytest
import torch

from lm_offload.arch.config import parse_config
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.models import gemma2
from lm_offload.models.base import Context
from lm_offload.models.workspace import Workspace
from tests.arch.real_configs import GEMMA_2_9B


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 55.5), (torch.float32, 3072**0.5)])
def test_embedding_scale_is_rounded_to_the_dtype_of_the_weights(dtype, scale):
    config = replace(parse_config(GEMMA_2_9B), hidden_size=3072, embed_scale=3072**0.5)
    ctx = Context(config, TorchKernels(1), Workspace(torch.empty(0)))
    hidden = torch.empty(2, 3072)
    gemma2.embed(ctx, {"tokens": torch.full((2, 3072), 2.0, dtype=dtype)}, hidden, {})
    torch.testing.assert_close(hidden, torch.full((2, 3072), 2 * scale))
