"""Ways to train a small DeePMD-kit network, which `student.py` compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from networks import SINGLE, SMALL, WIDE

OLD = SMALL | {"learning_rate_start": 1e-3, "learning_rate_stop": 3.5e-8}
"""A small network, trained by the default of version 0.1."""


@dataclass(frozen=True)
class Way:
    """One way to train.

    Parameters
    ----------
    name
        What differs from the one before.
    settings
        Keys of the run file.
    script
        Parts of DeePMD-kit's `input.json` to change.
    average
        How many of the last checkpoints are averaged, each of a hundredth of the steps.
    """

    name: str
    settings: dict[str, Any]
    script: dict[str, Any] = field(default_factory=dict)
    average: int = 1

    def of(self, name: str, script: dict[str, Any] | None = None, **settings: Any) -> Way:
        """Return another way that differs from this one in a few keys."""
        return Way(name, self.settings | settings, self.script | (script or {}))


FIRST = Way("1e-3 to 3.5e-8, as version 0.1", OLD)
GOOD = FIRST.of("3e-3 to 3e-5", learning_rate_start=3e-3, learning_rate_stop=3e-5)
DEFAULT = Way("the rates that follow the steps", SMALL)
"""The default of today: what the run file leaves open."""


def schedules() -> Iterator[Way]:
    """Yield learning rates: exponential ones, then other shapes."""
    rates = [(2e-3, 1e-6), (2e-3, 1e-5), (3e-3, 3e-5), (3e-3, 3e-4), (1e-2, 1e-4)]
    for start, stop in rates:
        name = f"{start:g} to {stop:g}"
        yield FIRST.of(name, learning_rate_start=start, learning_rate_stop=stop)


def shapes() -> Iterator[Way]:
    """Yield learning rates that do not decay exponentially."""
    for start in (3e-3, 6e-3, 1e-2):
        rate = {"type": "cosine", "start_lr": start, "stop_lr": 1e-6}
        yield GOOD.of(f"cosine {start:g} to 1e-6", {"learning_rate": rate})
    late = {"type": "wsd", "start_lr": 3e-3, "stop_lr": 1e-5, "decay_phase_ratio": 0.4}
    yield GOOD.of("3e-3, the last 40 % down to 1e-5", {"learning_rate": late})


def weights() -> Iterator[Way]:
    """Yield prefactors of the loss."""
    for end in (10.0, 100.0):
        yield DEFAULT.of(f"forces 1000 to {end:g}", force_prefactors=(1000.0, end))
    yield DEFAULT.of("forces 100 to 1", force_prefactors=(100.0, 1.0))
    yield DEFAULT.of("energies 0.2 to 10", energy_prefactors=(0.2, 10.0))


def batches() -> Iterator[Way]:
    """Yield batch sizes and Adam's memory."""
    yield DEFAULT.of("2 frames a step", batch_size=2)
    yield DEFAULT.of("4 frames a step", batch_size=4)
    yield DEFAULT.of("Adam's beta2 0.99", {"optimizer": {"type": "Adam", "adam_beta2": 0.99}})


def nets() -> Iterator[Way]:
    """Yield networks and precisions."""
    yield DEFAULT.of("float32", precision="float32")
    yield DEFAULT.of("[20, 40, 80], [100]*3", neurons=[20, 40, 80], fitting=[100] * 3)
    yield DEFAULT.of("[10, 20], [64]*3", neurons=[10, 20])
    yield DEFAULT.of("gelu_tf", activation="gelu_tf")
    yield DEFAULT.of("rcut 6", rcut=6.0)
    yield DEFAULT.of("rcut 6, [20, 40, 80], [100]*3, float32", **WIDE, **SINGLE)


def averages() -> Iterator[Way]:
    """Yield averages of the last checkpoints, with rates that end high and low."""
    for start, stop in ((3e-3, 1e-3), (3e-3, 3e-4), (3e-3, 3e-5)):
        rates = {"learning_rate_start": start, "learning_rate_stop": stop}
        yield Way(f"{start:g} to {stop:g}, 10 averaged", OLD | rates, average=10)


def torch_ways() -> Iterator[Way]:
    """Yield what only the PyTorch backend has."""
    here = GOOD.of("PyTorch", backend="pytorch")
    yield here
    kalman = {"type": "LKF", "kf_blocksize": 1024}
    yield here.of("PyTorch, Kalman optimiser", {"optimizer": kalman}, **KALMAN)
    ema = {"enable_ema": True, "ema_decay": 0.99}
    yield here.of("PyTorch, moving average of the weights", {"training": ema})
    yield here.of("PyTorch, se_atten without attention", model=_attention(0))
    yield here.of("PyTorch, se_atten with two layers of attention", model=_attention(2))
    yield here.of("PyTorch, small DPA-3", model=DPA3)


KALMAN = {"learning_rate_start": 1.0, "learning_rate_stop": 1.0}


def _attention(layers: int) -> dict[str, Any]:
    descriptor = {"type": "se_atten", "rcut": 5.0, "rcut_smth": 0.5, "neuron": [10, 20, 40]}
    more = {"axis_neuron": 8, "attn_layer": layers, "attn": 32, "tebd_input_mode": "strip"}
    return {"descriptor": descriptor | more, "fitting_net": {"neuron": [64, 64, 64]}}


DPA3 = {
    "descriptor": {
        "type": "dpa3",
        "repflow": {
            "n_dim": 32,
            "e_dim": 16,
            "a_dim": 8,
            "nlayers": 2,
            "e_rcut": 5.0,
            "e_rcut_smth": 4.0,
            "e_sel": 64,
            "a_rcut": 3.5,
            "a_rcut_smth": 2.5,
            "a_sel": 24,
            "axis_neuron": 4,
        },
    },
    "fitting_net": {"neuron": [64, 64, 64]},
}

GROUPS: dict[str, Callable[[], Iterator[Way]]] = {
    "schedule": schedules,
    "shape": shapes,
    "weights": weights,
    "batch": batches,
    "net": nets,
    "average": averages,
    "pytorch": torch_ways,
}
