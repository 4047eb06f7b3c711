"""How a DeePMD-kit model is built and trained, as the run file says it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ionloop.codes.deepmd.schedule import Decay, Schedule, schedule
from ionloop.programs.environment import Command
from ionloop.schemas.document import Model
from ionloop.schemas.units import Length

Prefactors = tuple[float, float]

LossTerm = Literal["energy", "force", "virial"]


class DeepmdSettings(Model):
    """How a DeePMD-kit model is built and trained."""

    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    """tensorflow is 2 to 8 times faster on a CPU, pytorch is for GPUs"""
    command: Command = "dp"
    """how DeePMD-kit is started, e.g. 'dp' or 'srun dp'"""
    model: Literal["se_e2_a", "se_atten"] | dict[str, Any] = "se_e2_a"
    """descriptor, or any `model` dictionary of DeePMD-kit; type_map, seeds and (where absent) sel
    are filled in, and the network fields below are then not used"""
    rcut: Length = Field(6.0, gt=0, le=20)
    """cut-off radius"""
    rcut_smth: Length = Field(0.5, ge=0)
    """radius from which on neighbours fade out"""
    neurons: list[int] = Field([25, 50, 100], min_length=1)
    """embedding net, each layer 1 or 2 times the last"""
    axis_neurons: int = Field(16, gt=0)
    """columns of the second embedding matrix"""
    fitting: list[int] = Field([240, 240, 240], min_length=1)
    """fitting net"""
    activation: Literal["tanh", "gelu", "gelu_tf", "relu", "softplus", "sigmoid"] = "tanh"
    """activation function of both nets"""
    precision: Literal["float64", "float32"] = "float64"
    """precision of the nets; energies are summed in double"""
    steps: int = Field(400_000, gt=0)
    """steps of a training from scratch"""
    batch_size: int | Literal["auto"] = 1
    """frames per step; auto: as many as make at least 32 atoms"""
    learning_rate_start: float | None = Field(None, gt=0)
    """learning rate of the first step; none: one that fits the steps, from 5e-3 for 5,000 to 1e-3
    for 400,000"""
    learning_rate_stop: float | None = Field(None, gt=0)
    """learning rate of the last step; none: one that fits the steps and the decay"""
    learning_rate_decay: Decay | None = None
    """how it decays from the one to the other; none: along a cosine up to 100,000 steps if neither
    is given, exponentially if one is"""
    energy_prefactors: Prefactors = (0.02, 1.0)
    """weight of the energies in the loss, at the start and at the end"""
    force_prefactors: Prefactors = (1000.0, 1.0)
    """weight of the forces in the loss, at the start and at the end"""
    virial_prefactors: Prefactors = (0.02, 1.0)
    """weight of the virials in the loss, at the start and at the end; frames without a virial do
    not count"""
    warm_steps: int | None = Field(None, gt=0)
    """steps of a training that starts from the last iteration's model; none: every training starts
    from scratch"""
    warm_learning_rate: float | None = Field(None, gt=0)
    """learning rate at the start of such a training; none: one that fits its steps, from 3e-3 for
    5,000 to 1e-4 for 400,000"""
    warm_energy_prefactors: Prefactors | None = None
    """energy_prefactors of such a training; none: the same with 0.1 or more at the start, since it
    might unlearn the energies otherwise"""
    warm_force_prefactors: Prefactors | None = None
    """force_prefactors of such a training; none: the same with 100 or less at the start"""
    warm_virial_prefactors: Prefactors | None = None
    """virial_prefactors of such a training; none: the same with 0.1 or more at the start"""
    warm_new_weight: float = Field(3.0, gt=0)
    """how many times as often such a training draws a frame that is new to the model as one that it
    has learned; 1: all alike"""
    compress: bool = False
    """tabulate the embedding net after training: faster MD, larger files"""
    disp_every: int = Field(100, gt=0)
    """steps between points of the learning curve"""

    def training_steps(self, warm: bool) -> int:
        """Return the number of steps of a training, which may continue another one (`warm`)."""
        return self.warm_steps if warm and self.warm_steps else self.steps

    def schedule(self, warm: bool) -> Schedule:
        """Return the learning rates of a training, which may continue another one (`warm`)."""
        start = self.warm_learning_rate if warm else self.learning_rate_start
        stop, decay = self.learning_rate_stop, self.learning_rate_decay
        return schedule(self.training_steps(warm), start, stop, decay, warm=warm)

    def prefactors(self, term: LossTerm, warm: bool) -> Prefactors:
        """Return the weights of energies, forces or virials in the loss, at the start and the end.

        A warm start ends with the weights of a start from scratch, and leaves out what has no
        weight there.

        Parameters
        ----------
        term
            Which weights.
        warm
            Whether the training continues from another one.
        """
        own = getattr(self, f"warm_{term}_prefactors") if warm else None
        start, end = own or getattr(self, f"{term}_prefactors")
        if own or not warm or not (start or end):
            return (start, end)
        return (min(start, 100.0) if term == "force" else max(start, 0.1), end)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must be below rcut ({self.rcut})")
        if self.axis_neurons > self.neurons[-1]:
            raise ValueError(
                f"axis_neurons ({self.axis_neurons}) must not be above the last layer of neurons "
                f"({self.neurons[-1]}), of which they are a part"
            )
        for warm, key in ((False, "learning_rate_start"), (True, "warm_learning_rate")):
            rates = self.schedule(warm)
            if rates.start < rates.stop and (self.warm_steps or not warm):
                raise ValueError(
                    f"{key} ({rates.start:g}) must not be below learning_rate_stop "
                    f"({rates.stop:g}); raise it"
                )
        return self
