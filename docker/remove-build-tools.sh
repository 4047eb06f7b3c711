#!/usr/bin/env bash
# Remove packages that only the build needed: compilers, headers, package lists. The libraries that
# the modules of a Python environment use are kept:  remove-build-tools.sh FOLDER
set -euo pipefail
folder=$1
modules=$(find "$folder" -name '*.so' -type f -not -path '*.libs/*')

used() {  # names of the libraries outside the environment
  xargs ldd <<<"$modules" 2>/dev/null | grep -v "$folder" | sed -n 's|.* => .*/\(\S*\) (.*|*/\1|p' | sort -u
}
mapfile -t libraries < <(used)
mapfile -t packages < <(dpkg-query --search "${libraries[@]}" 2>/dev/null | cut -d: -f1 | sort -u)
apt-mark manual openmpi-bin "${packages[@]}" >/dev/null

DEBIAN_FRONTEND=noninteractive apt-get purge -qy --auto-remove \
  gcc gfortran python3-dev libxc-dev libopenblas-dev libopenmpi-dev libfftw3-dev libscalapack-openmpi-dev
rm -rf /var/lib/apt/lists/*
if xargs ldd <<<"$modules" 2>/dev/null | grep 'not found'; then
  echo "remove-build-tools.sh: a library that $folder needs is gone" >&2
  exit 1
fi
