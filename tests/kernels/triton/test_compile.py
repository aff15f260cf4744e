"""The kernels as a GPU would get them: the interpreter does not see what a compiler refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("capability", [75, 80, 90])
def test_kernels_compile_without_a_gpu(tmp_path, capability):
    pytest.importorskip("triton", reason="Triton is not installed (lm-offload[gpu])")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.triton.compile_for", f"{capability}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{capability}: 9 kernels")
