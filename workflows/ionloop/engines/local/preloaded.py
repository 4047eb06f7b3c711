"""What workers need, imported once by the server process that they are forked from."""

import gc

import jobflow.utils.graph  # noqa: F401 -- jobflow imports it only in jobs that add jobs
import numpy.random  # noqa: F401 -- numpy imports it only where it is used

import ionloop.engines.local.worker
import ionloop.flows.concurrent_learning.maker  # noqa: F401

# Else the garbage collection of every worker would look at all this, and so copy its memory:
# a tenth of a second for each job.
gc.freeze()
