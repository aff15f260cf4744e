"""Tests; where there is no GPU, Triton's kernels run in its interpreter.

The variable counts when Triton is imported, which torch does on its own in some of its modules.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
