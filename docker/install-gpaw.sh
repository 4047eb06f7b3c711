#!/usr/bin/env bash
# Install GPAW with MPI, ScaLAPACK and its setups into a Python environment of its own (Debian):
#   install-gpaw.sh [FOLDER]      default: /opt/gpaw
# If the same versions are installed already, nothing is done. Run as root, unless the Debian packages
# below are installed. Debian's own Python also needs python3-dev and python3-venv.
# Then: label.command: mpirun.openmpi -np {cores} FOLDER/bin/gpaw python
set -euo pipefail
folder=${1:-/opt/gpaw}
gpaw=26.7.0 data=1.2.1 ase=3.29.0
packages=(libxc-dev libopenblas-dev libopenmpi-dev libfftw3-dev libscalapack-openmpi-dev
          gcc gfortran openmpi-bin)

if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
fi

installed=$("$folder/bin/python" -m pip list --format=freeze 2>/dev/null || true)
if grep -qx "gpaw==$gpaw" <<<"$installed" && grep -qx "gpaw-data==$data" <<<"$installed"; then
  echo "GPAW $gpaw is in $folder already"
  exit
fi

config=$(mktemp --suffix=.py)
trap 'rm -f "$config"' EXIT
cat > "$config" <<'SITE'
mpi = True
compiler = 'mpicc'
fftw = True
scalapack = True
libraries = ['xc', 'openblas', 'fftw3', 'scalapack-openmpi']
SITE

python3 -m venv "$folder"
# --no-cache-dir: a wheel that was built with another configuration must not be used.
# PATH: GPAW compiles as C only if the compiler's name is exactly mpicc, and the mpicc of a Python
# package (mpich, which DeePMD-kit brings) may come first.
PATH=/usr/bin:$PATH GPAW_CONFIG=$config "$folder/bin/pip" install --quiet --no-cache-dir \
  "ase==$ase" "gpaw==$gpaw" "gpaw-data==$data"
OMP_NUM_THREADS=1 "$folder/bin/gpaw" info
