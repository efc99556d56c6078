#!/usr/bin/env bash
# Writes the packages' type declarations (packages/*/types), which a TypeScript project outside this folder needs: its compiler would take our
# sources for its own, by its own settings.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf .types
tsc -p tsconfig.types.json
for package in .types/*; do
  at="packages/$(basename "$package")/types"
  rm -rf "$at"
  mv "$package/src" "$at"
done
rm -rf .types
