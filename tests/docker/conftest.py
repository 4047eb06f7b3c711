from __future__ import annotations

import sys
from pathlib import Path

# The tests share modules that read and build images.
sys.path.insert(0, str(Path(__file__).parent))
