#!/usr/bin/env bash
# Install ionloop from its sources, with extras, into an environment of its own:
#   install-ionloop.sh SOURCES EXTRAS [FOLDER]      default: /opt/ionloop
# The versions are those of constraints.txt. DeePMD-kit for GPUs needs another PyTorch than the
# tests; constraints-gpu.txt therefore replaces its version.
set -euo pipefail
sources=$1 extras=$2 folder=${3:-/opt/ionloop}

constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
cp "$sources/constraints.txt" "$constraints"
if [[ $extras == *deepmd-gpu* ]]; then
  sed -i '/^torch==/d' "$constraints"
  cat "$sources/docker/constraints-gpu.txt" >> "$constraints"
fi

python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --no-cache-dir --constraint "$constraints" "${sources}[$extras]"
"$folder/bin/pip" check

if [[ $extras == *deepmd-gpu* ]]; then
  # DeePMD-kit's kernels open the CUDA 12 runtime by its bare name.
  dirname "$(find "$folder" -name libcudart.so.12)" > /etc/ld.so.conf.d/cudart.conf
  ldconfig
fi
