#!/usr/bin/env bash
# Install the basis of every image (Debian): Python, certificates, an init program, and the user of the
# worker. Further Debian packages can be given:  install-system.sh [PACKAGE...]    Run as root.
set -euo pipefail
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
  ca-certificates python3 python3-venv tini "$@"
rm -rf /var/lib/apt/lists/*
useradd --uid 1000 --create-home ionloop
install --directory --owner ionloop --group ionloop /home/ionloop/work
