from __future__ import annotations

import sys
from pathlib import Path

# The jobs' processes import the functions of toy_jobs by name.
sys.path.insert(0, str(Path(__file__).parent))
