"""Threads of models in this process."""

from __future__ import annotations


def use_one_thread() -> None:
    """Have torch compute on one thread.

    Several processes run at once: two threads on busy cores made SevenNet 20 times slower.
    """
    import torch

    torch.set_num_threads(1)
