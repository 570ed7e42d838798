#!/usr/bin/env bash
# Installs what is needed (the first time) and passes the checks: ruff, mypy, and the tests.
#
#   scripts/test.sh            the fast tests and a smoke selection of the slow ones
#   scripts/test.sh --all      every test
#   scripts/test.sh [...] ARG  further arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh

selection="not slow or smoke"
if [[ ${1-} == --all ]]; then
    selection=
    shift
fi

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/pytest -m "$selection" "$@"
