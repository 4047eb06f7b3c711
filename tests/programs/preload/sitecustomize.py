"""Let the server that forks the workers of a run import TensorFlow once, before the workers do.

Every training and every evaluation predicts in a worker of its own, and each would spend four
seconds of CPU time on the import. Comes into a Python process by PYTHONPATH.
"""

from __future__ import annotations

import os
import sys

if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    try:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import deepmd.infer
        import deepmd.tf.infer.deep_pot  # noqa: F401
    finally:
        del os.environ["TF_USE_LEGACY_KERAS"]
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
