#!/usr/bin/env bash
# Install MACE into a Python environment of its own, because its e3nn excludes that of SevenNet:
#   install-mace.sh [FOLDER]      default: /opt/mace
# If the same version is installed already, nothing is done. Debian's own Python also needs python3-venv.
# Then: train.python: FOLDER/bin/python
set -euo pipefail
folder=${1:-/opt/mace}
torch=2.13.0 mace=0.3.15 ase=3.29.0

installed=$("$folder/bin/python" -m pip list --format=freeze 2>/dev/null || true)
if grep -qx "mace-torch==$mace" <<<"$installed" && grep -qx "ase==$ase" <<<"$installed"; then
  echo "MACE $mace is in $folder already"
  exit
fi

python3 -m venv "$folder"
# torch first and exactly: resolved together with mace-torch, pip may take a build for another machine.
"$folder/bin/pip" install --quiet "torch==$torch"
"$folder/bin/pip" install --quiet "torch==$torch" "mace-torch==$mace" "ase==$ase"
"$folder/bin/python" -c "import mace; print('MACE', mace.__version__)"
