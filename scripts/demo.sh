#!/usr/bin/env bash
# Installs what is needed (the first time) and runs `mrirecon demo` with the options given: the whole main job on a
# simulated scan. The report lands in the folder that the command names.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/mrirecon" demo "$@"
