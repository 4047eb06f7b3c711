"""DPA models of DeePMD-kit: pre-trained potentials that are fine-tuned."""

from __future__ import annotations

from ionloop.codes.dpa.settings import DpaSettings as DpaSettings
