#!/usr/bin/env bash
# Check that all programs of an image start:   check.sh [cpu|gpu]
# The check of the GPU image also works on a machine without a GPU; it then calculates on the CPU.
set -euo pipefail
image=${1:-cpu}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

ionloop --help >/dev/null
echo "ionloop answers"
dp --version
echo 'info styles pair' > pair.in
lmp -in pair.in -log none > pair.out 2>&1 || { cat pair.out >&2; exit 1; }
grep -wo deepmd pair.out | sort -u | sed 's/^/LAMMPS has pair style /'
rlaunch --version
jf --help >/dev/null
echo "jobflow-remote answers"
if [[ $image == gpu ]]; then
  if grep 'Cannot find libcudart' pair.out >&2; then exit 1; fi
  echo "DeePMD-kit finds the CUDA runtime"
  exit
fi

mpirun.openmpi -np 1 cp2k.psmp --version | grep 'CP2K version'
cat > atom.py <<'SCRIPT'
from ase import Atoms
from gpaw import GPAW, PW

atom = Atoms("H", positions=[(2, 2, 2)], cell=(4, 4, 4), pbc=True)
atom.calc = GPAW(mode=PW(200), hund=True, txt="atom.txt")
print(f"GPAW: a hydrogen atom in a small box has {atom.get_potential_energy():.3f} eV")
SCRIPT
mpirun.openmpi -np 1 /opt/gpaw/bin/gpaw python atom.py
