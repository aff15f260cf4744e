#!/usr/bin/env bash
# The kernel tests on another build of the native code, in a copy of the sources:
#   sanitize  with address and undefined-behaviour sanitizers
#   emulate   with AVX-512 tables on emulated intrinsics, for a processor with AVX2 only
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r src csrc tests setup.py pyproject.toml README.md LICENSE "$copy"
rm -f "$copy"/src/lm_offload/kernels/_native*.so
python=$PWD/.venv/bin/python
cd "$copy"
options=()
export PYTHONPATH=$copy/src:$copy
case ${1:-} in
sanitize)
    LM_OFFLOAD_SANITIZE=1 "$python" setup.py --quiet build_ext --inplace --force
    export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
    options=(--capture=sys --ignore=tests/kernels/triton)  # a fault ends the process: show its message
    ;;
emulate)
    LM_OFFLOAD_EMULATE=1 "$python" setup.py --quiet build_ext --inplace --force
    ;;
*)
    echo "usage: $0 sanitize|emulate" >&2
    exit 2
    ;;
esac
"$python" -c 'from lm_offload.kernels import _native as n; print(*(t.name for t in n.all_operations()))'
"$python" -m pytest -q "${options[@]}" tests/kernels
