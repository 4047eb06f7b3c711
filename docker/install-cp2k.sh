#!/usr/bin/env bash
# Install CP2K with its basis sets and pseudopotentials (Debian). Run as root.
# Then: label.command: mpirun.openmpi -np {cores} cp2k.psmp
set -euo pipefail
packages=(cp2k cp2k-data openmpi-bin)
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
fi
command -v cp2k.psmp
