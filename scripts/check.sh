#!/usr/bin/env bash
# Types, lint, format, generated files, and the lockfile; every part runs even when one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
part() { echo "check: $1" >&2; shift; "$@" || { status=1; echo "check: ^ failed" >&2; }; }
part types tsc -p .
part lint oxlint --quiet
part format prettier --check --log-level warn .
part "generated files" node packages/torch/scripts/generate-ops.ts --check
part "lockfile names no registry" bash -c '! grep -nE "\"resolved\": \"https?:" package-lock.json'
exit $status
