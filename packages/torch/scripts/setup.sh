#!/usr/bin/env bash
# Sets the engine up: system packages, libtorch, the addon. `npm run setup` calls it here, `npx anchor setup` in projects that installed the
# packages; safe to run again (seconds when nothing is to do). What it installs:
#   - from Debian/Ubuntu: cmake ninja-build g++ ffmpeg, and libtorch-dev with libgloo-dev and libopenblas0-openmp unless another libtorch is chosen (see below)
#   - it builds the addon build/anchor_torch.node
# Which libtorch: LIBTORCH=/path; else LIBTORCH_USE_PYTORCH=1 (the torch of the active Python); else $ANCHOR_TOOLS/libtorch, which
# LIBTORCH_DOWNLOAD fetches once (cpu, a CUDA version like cu128, or the address of a libtorch archive or torch wheel); else the
# system package, which always works. ANCHOR_TOOLS is the user's cache folder unless it is given.
set -euo pipefail
[ -z "${LIBTORCH:-}" ] || LIBTORCH="$(realpath -m "$LIBTORCH")" # as it was meant where this was typed
cd "$(dirname "$0")/.."
quiet=0; engine_only=0
for flag in "$@"; do
  case "$flag" in
    --quiet) quiet=1 ;;                # says only what it does
    --engine-only) engine_only=1 ;;    # without what only videos need (ffmpeg)
    *) echo "setup: unknown flag $flag (--quiet, --engine-only)" >&2; exit 2 ;;
  esac
done
tools="${ANCHOR_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/make-your-anchor}"
again="${ANCHOR_SETUP:-npx anchor setup}" # how the user called this
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
  local address="$LIBTORCH_DOWNLOAD" archive="$tools/libtorch.zip" found
  case "$address" in
    cpu | cu[0-9]*) address="https://download.pytorch.org/libtorch/$address/libtorch-shared-with-deps-$download_version%2B$address.zip" ;;
    http://* | https://*) ;;
    *) fail "LIBTORCH_DOWNLOAD: expected cpu, a CUDA version like cu128, or a web address, got \"$address\"" ;;
  esac
  [ "$(cat "$tools/libtorch/.address" 2>/dev/null)" != "$address" ] || return 0
  install ${missing[@]+"${missing[@]}"}; missing=() # cmake unpacks
  say "fetching libtorch: $address"
  mkdir -p "$tools"
  NODE_USE_ENV_PROXY=1 node scripts/fetch.mjs "$address" "$archive" || return 1
  rm -rf "$tools/libtorch.new"; mkdir "$tools/libtorch.new"
  (cd "$tools/libtorch.new" && cmake -E tar xf ../libtorch.zip) >/dev/null 2>&1 || { say "$address: not an archive"; rm -f "$archive"; return 1; }
  # An archive holds libtorch/, a wheel torch/.
  for found in "$tools/libtorch.new/libtorch" "$tools/libtorch.new/torch"; do
    [ -e "$found/include/ATen/core/Tensor.h" ] || continue
    echo "$address" > "$found/.address"
    rm -rf "$tools/libtorch"; mv "$found" "$tools/libtorch"; rm -rf "$tools/libtorch.new" "$archive"
    return 0
  done
  say "$address: no libtorch in it (include/ATen/core/Tensor.h)"; rm -rf "$tools/libtorch.new" "$archive"
  return 1
}
if [ -n "${LIBTORCH:-}" ]; then torch_at="$LIBTORCH"
elif [ "${LIBTORCH_USE_PYTORCH:-}" = 1 ]; then
  torch_at="$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))' 2>/dev/null)" || fail "LIBTORCH_USE_PYTORCH=1, but 'import torch' fails in $(command -v python3 || echo 'python3 (not found)'): activate the environment that holds it, or unset the variable"
else
  if [ -n "${LIBTORCH_DOWNLOAD:-}" ]; then download_torch || say "going on without it"; fi
  if [ -d "$tools/libtorch" ]; then torch_at="$tools/libtorch"; else torch_at=system; fi
fi
if [ "$torch_at" = system ]; then
  [ -e /usr/include/torch/csrc/api/include/torch/torch.h ] || missing+=(libtorch-dev)
  # libtorch-dev alone multiplies matrices by the reference BLAS, several times slower (docs/design/engine.md).
  ls /usr/lib/*/libopenblas.so.0 >/dev/null 2>&1 || missing+=(libopenblas0-openmp)
  # Headers that c10d's own include (training in several processes).
  [ -e /usr/include/gloo/algorithm.h ] || missing+=(libgloo-dev)
  [ ! -e /proc/driver/nvidia/version ] || detail "an NVIDIA driver is here, the system's libtorch cannot use it; for one that can:  LIBTORCH_DOWNLOAD=cu128 $again"
else
  [ -e "$torch_at/include/ATen/core/Tensor.h" ] || fail "no libtorch at $torch_at (include/ATen/core/Tensor.h is missing): give the folder that holds include/ and lib/"
fi
install ${missing[@]+"${missing[@]}"}

# --- the addon -----------------------------------------------------------------------------------------------------------
headers="$(node -p 'require("node-api-headers").include_dir' 2>/dev/null)" || fail "the npm package node-api-headers is missing beside $PWD: install the npm packages first, then run again"
stamp="$(cat native/* | sha256sum | cut -d' ' -f1) $torch_at $(ls -l --time-style=full-iso "$([ "$torch_at" = system ] && echo /usr/include/torch/csrc/api/include/torch/version.h || echo "$torch_at/include/torch/csrc/api/include/torch/version.h")" 2>/dev/null)"
if [ "$(cat build/stamp 2>/dev/null)" != "$stamp" ] || [ ! -e build/anchor_torch.node ]; then
  say "building the libtorch addon (about half a minute)"
  log="$(mktemp)"
  rm -rf build
  if ! { cmake -G Ninja -S native -B build -DTORCH_AT="$torch_at" -DNODE_API_HEADERS="$headers" && cmake --build build; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "building the addon against $torch_at failed (log: $log)"
  fi
  why="$(node -e 'try { require("./build/anchor_torch.node") } catch (e) { console.log(e.message.split("\n")[0]) }')"
  [ -z "$why" ] || fail "the addon was built against $torch_at and does not load ($why): choose another libtorch (LIBTORCH, LIBTORCH_USE_PYTORCH=1, LIBTORCH_DOWNLOAD=cpu), or make that library findable"
  echo "$stamp" > build/stamp
else detail "addon: up to date (libtorch: $torch_at)"; fi
