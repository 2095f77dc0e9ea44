#!/bin/sh
# Runs shellcheck over every shell program of the repository. Passes where shellcheck is not installed, except in CI.
set -eu
cd "$(dirname "$0")/.."

if ! command -v shellcheck >/dev/null; then
  if [ "${CI:-}" = true ]; then
    echo 'shellcheck is not installed, and CI=true requires it' >&2
    exit 1
  fi
  echo 'shell programs are not checked: shellcheck is not installed'
  exit 0
fi

git ls-files -z -co --exclude-standard '*.sh' .ci/run | xargs -0 shellcheck
