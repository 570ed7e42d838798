#!/usr/bin/env bash
# Makes an environment of its own with fastMRI's package and ATOMMIC's, beside which mrirecon is measured:
#
#     scripts/benchmark_peers.sh [FOLDER]                     (default: .venv-peers in the project's root)
#     mrirecon benchmark --peers FOLDER/bin/python
#
# Any pip setting applies. For the smaller CPU build of torch on Linux:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/benchmark_peers.sh
# PYTHON names the Python to make it with (default: python3). Nothing of it is used by mrirecon itself.
set -euo pipefail

folder=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/../.venv-peers}")
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -x $folder/bin/python ]] &&
    "$folder/bin/python" -I -c 'import atommic, fastmri.data, fastmri.models, omegaconf, wrapt' 2>/dev/null; then
    echo "benchmark_peers: $folder has fastMRI and ATOMMIC already." >&2
else
    echo "benchmark_peers: installing fastMRI and ATOMMIC into $folder; this takes some minutes." >&2
    "${PYTHON:-python3}" -m venv --clear "$folder"
    pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt)
    # The same versions as mrirecon's, so that the programs differ and not the libraries below them. fastMRI's loader
    # needs requests, which its package does not ask for; ATOMMIC's networks need omegaconf and wrapt.
    "${pip[@]}" fastmri==0.3.0 requests omegaconf==2.4.0 wrapt==2.5.2
    # ATOMMIC asks for versions of 2023, and for much that its networks do not use (see atommic_peer.py).
    "${pip[@]}" --no-deps atommic==1.0.1
fi
"$folder/bin/python" -I -c 'import atommic, fastmri.data, fastmri.models, torch
print("fastMRI and ATOMMIC", atommic.__version__, "with torch", torch.__version__)'
echo "mrirecon benchmark --peers $folder/bin/python"
