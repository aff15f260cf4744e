#!/usr/bin/env bash
# The kernel tests with address and undefined-behaviour sanitizers, in a copy of the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r src csrc tests setup.py pyproject.toml README.md LICENSE "$copy"
python=$PWD/.venv/bin/python
cd "$copy"
LM_OFFLOAD_SANITIZE=1 "$python" setup.py --quiet build_ext --inplace
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$copy/src:$copy
"$python" -m pytest -q tests/kernels
