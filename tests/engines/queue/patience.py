"""How long the tests of the queue wait."""

PATIENCE = 400.0
"""Seconds to wait for what should happen. Only a test that fails waits so long: the machine may be
slow, and Slurm waits two minutes before it starts a job again that it could not start."""
