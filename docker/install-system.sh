#!/usr/bin/env bash
# Install what every image has (Debian): Python, certificates, an init, and the user of the worker.
# Further Debian packages may be named:  install-system.sh [PACKAGE...]    Run as root.
set -euo pipefail
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
  ca-certificates python3 python3-venv tini "$@"
rm -rf /var/lib/apt/lists/*
useradd --uid 1000 --create-home ionloop
install --directory --owner ionloop --group ionloop /home/ionloop/work
