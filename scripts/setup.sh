#!/usr/bin/env bash
# Makes the virtual environment .venv in the project's root and installs mrirecon with its development tools into it,
# at the versions of constraints.txt. Does nothing when that has been done already for the same two files.
#
# Any pip setting applies. For the smaller CPU build of torch on Linux:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/setup.sh
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "setup: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "mrirecon needs Python 3.11, 3.12 or 3.13, and none is on the PATH. Install one" \
        "(Debian, Ubuntu: apt install python3 python3-venv) and run this again."
}

# A virtual environment that was moved or copied along with the project does not work: its scripts name the old place.
usable() {
    grep -qsF "$PWD/.venv" .venv/bin/activate && .venv/bin/python -c '' 2>/dev/null
}

stamp=.venv/installed
wanted=$(cat pyproject.toml constraints.txt | cksum)
if usable && [[ -x .venv/bin/mrirecon && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

if ! usable; then
    python=$(find_python)
    "$python" -c 'import ensurepip' 2>/dev/null || fail "$python cannot make virtual environments. Install its venv" \
        "module (Debian, Ubuntu: apt install python3-venv) and run this again."
    "$python" -m venv --clear .venv
fi
echo "setup: installing into $PWD/.venv; the first time this takes some minutes." >&2
install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt)
# The build backend comes first: pip then builds mrirecon with the pinned one rather than with the newest.
"${install[@]}" hatchling
"${install[@]}" --no-build-isolation -e ".[dev]"
echo "$wanted" >"$stamp"
echo "setup: done." >&2
