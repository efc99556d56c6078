#!/usr/bin/env bash
# Builds the engine against the Python torch of this machine and proves it on CUDA: engine tests, golden cases in float32 and
# the halves, the benchmark. One JSON on stdout. Without a GPU it says so and exits 0.
# --peer FILE: a Python benchmark with the same measurements, run beside ours. --no-bench: the proofs alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo '{"gpu": false, "note": "no NVIDIA driver here: nothing was checked"}'
  exit 0
fi
export LIBTORCH_USE_PYTORCH=1
bash scripts/setup.sh --engine-only >&2
[ -d .tools/node/bin ] && export PATH="$PWD/.tools/node/bin:$PATH"
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/gpu-check.ts "$@"
