#!/usr/bin/env bash
# Runs a command of the project with everything it needs in place: sets up first (seconds when nothing is to do).
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
# Read by "anchor setup".
export ANCHOR_TOOLS="$root/.tools" ANCHOR_SETUP="npm run setup"
export ANCHOR_CALLER_DIR="${INIT_CWD:-$PWD}"
bash "$root/scripts/setup.sh" --quiet
[ -d "$root/.tools/node/bin" ] && export PATH="$root/.tools/node/bin:$PATH"
export PATH="$root/node_modules/.bin:$PATH"
# Node keeps what it made of the sources: 26 MiB less memory and a fifth of a second sooner.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$root/.tools/compile-cache}"
cd "$root"
exec "$@"
