"""How a DeePMD-kit model is built and trained, as the run file says it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ionloop.programs.environment import Command
from ionloop.schemas.document import Model

Prefactors = tuple[float, float]


class DeepmdSettings(Model):
    """How a DeePMD-kit model is built and trained."""

    backend: Literal["tensorflow", "pytorch"] = Field(
        "tensorflow", description="tensorflow is 2 to 8 times faster on a CPU, pytorch is for GPUs"
    )
    command: Command = Field("dp", description="how DeePMD-kit is started, e.g. 'dp' or 'srun dp'")
    model: Literal["se_e2_a", "se_atten"] | dict[str, Any] = Field(
        "se_e2_a",
        description="descriptor, or any `model` dictionary of DeePMD-kit; type_map, seeds and "
        "(where absent) sel are filled in, and the network fields below are then not used",
    )
    rcut: float = Field(
        6.0, gt=0, le=20, description="cut-off radius", json_schema_extra={"unit": "Å"}
    )
    rcut_smth: float = Field(
        0.5,
        ge=0,
        description="radius from which on neighbours fade out",
        json_schema_extra={"unit": "Å"},
    )
    neurons: list[int] = Field(
        [25, 50, 100], min_length=1, description="embedding net, each layer 1 or 2 times the last"
    )
    axis_neurons: int = Field(16, gt=0, description="columns of the second embedding matrix")
    fitting: list[int] = Field([240, 240, 240], min_length=1, description="fitting net")
    activation: Literal["tanh", "gelu", "gelu_tf", "relu", "softplus", "sigmoid"] = Field(
        "tanh", description="activation function of both nets"
    )
    precision: Literal["float64", "float32"] = Field(
        "float64", description="precision of the nets; energies are summed in double"
    )
    steps: int = Field(400_000, gt=0, description="steps of a training from scratch")
    batch_size: int | Literal["auto"] = Field(
        1, description="frames per step; auto: as many as make at least 32 atoms"
    )
    learning_rate_start: float = Field(1e-3, gt=0, description="learning rate of the first step")
    learning_rate_stop: float = Field(
        3.5e-8, gt=0, description="learning rate of the last step; it decays exponentially"
    )
    energy_prefactors: Prefactors = Field(
        (0.02, 1.0), description="weight of the energies in the loss, at the start and at the end"
    )
    force_prefactors: Prefactors = Field(
        (1000.0, 1.0), description="weight of the forces in the loss, at the start and at the end"
    )
    virial_prefactors: Prefactors = Field(
        (0.02, 1.0),
        description="weight of the virials in the loss, at the start and at the end; frames "
        "without a virial do not count",
    )
    warm_steps: int | None = Field(
        None,
        gt=0,
        description="steps of a training that starts from the last iteration's model; "
        "none: every training starts from scratch",
    )
    warm_learning_rate: float = Field(
        1e-4, gt=0, description="learning rate at the start of such a training"
    )
    warm_energy_prefactors: Prefactors | None = Field(
        None,
        description="energy_prefactors of such a training; none: the same with 0.1 or more at the "
        "start, since it might unlearn the energies otherwise",
    )
    warm_force_prefactors: Prefactors | None = Field(
        None,
        description="force_prefactors of such a training; none: the same with 100 or less at the "
        "start",
    )
    warm_virial_prefactors: Prefactors | None = Field(
        None,
        description="virial_prefactors of such a training; none: the same with 0.1 or more at the "
        "start",
    )
    warm_new_weight: float = Field(
        3.0,
        gt=0,
        description="how many times as often such a training draws a frame that is new to the "
        "model as one that it has learned; 1: all alike",
    )
    compress: bool = Field(
        False, description="tabulate the embedding net after training: faster MD, larger files"
    )
    disp_every: int = Field(100, gt=0, description="steps between points of the learning curve")

    def prefactors(self, kind: Literal["energy", "force", "virial"], warm: bool) -> Prefactors:
        """Return the weights of energies, forces or virials in the loss, at the start and the end.

        A warm start ends as a start from scratch does, and learns nothing that that one does not.

        Parameters
        ----------
        kind
            Which weights.
        warm
            Whether the training continues from another one.
        """
        own = getattr(self, f"warm_{kind}_prefactors") if warm else None
        start, end = own or getattr(self, f"{kind}_prefactors")
        if own or not warm or not (start or end):
            return (start, end)
        return (min(start, 100.0) if kind == "force" else max(start, 0.1), end)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must be below rcut ({self.rcut})")
        if self.axis_neurons > self.neurons[-1]:
            raise ValueError(
                f"axis_neurons ({self.axis_neurons}) must not be above the last layer of neurons "
                f"({self.neurons[-1]}), of which they are a part"
            )
        for key in ("learning_rate_start", "warm_learning_rate"):
            if getattr(self, key) < self.learning_rate_stop:
                raise ValueError(f"{key} must not be below learning_rate_stop; raise it")
        return self
