"""The steps of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.training import TrainingError
from ionloop.codes.finetuning.checkpoint import State, write_state
from ionloop.codes.finetuning.examples import Errors, Example, errors
from ionloop.codes.finetuning.net import Net
from ionloop.codes.finetuning.schedule import batch, learning_rate

if TYPE_CHECKING:
    from ionloop.codes.finetuning.settings import FineTuner

LARGEST_GRADIENT = 10.0
"""Norm to which the gradient is clipped."""

MOST_COMPARED = 32
"""Held-back frames that the comparisons during a training take at most; the end takes all."""


@dataclass(frozen=True)
class Plan:
    """What sets the loop of one model apart.

    Parameters
    ----------
    steps
        Steps of the whole training.
    rate
        Largest learning rate.
    seed
        Seed of the order of the examples.
    folder
        Where the state is kept.
    """

    steps: int
    rate: float
    seed: int
    folder: Path


class Loop:
    """A training of a net: Adam (Kingma and Ba, arXiv:1412.6980), one step after the other.

    Everything that a step depends on is the state and the number of the step, so that a training
    that is read back from its state continues bit by bit.

    Parameters
    ----------
    settings
        How to train.
    net
        What to train.
    training, validation
        Examples to train on, as often as they were drawn, and those held back.
    plan
        Steps, learning rate, seed and folder.
    """

    def __init__(
        self,
        settings: FineTuner,
        net: Net,
        training: Sequence[Example],
        validation: Sequence[Example],
        plan: Plan,
    ) -> None:
        from torch.optim import Adam

        self.settings, self.net = settings, net
        self.training, self.compared = training, spread(validation, MOST_COMPARED)
        self.plan = plan
        self.optimizer = Adam(net.trained, lr=plan.rate)

    def begin(self, rmse_e: float, rmse_f: float) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        rmse_e, rmse_f
            Errors on the frames to train on, in eV/atom and eV/Å.
        """
        state = State()
        self._note(state, rmse_e**2, rmse_f**2)
        return state

    def resume(self, state: State) -> None:
        """Put net, optimiser and random numbers into a state.

        Parameters
        ----------
        state
            As it was read back.
        """
        self.net.module.load_state_dict(state.model)
        self.optimizer.load_state_dict(dict(state.optimizer))
        _set_random(state.random)

    def run(self, state: State) -> None:
        """Train to the end; the state is written after every comparison.

        Parameters
        ----------
        state
            Where the training stands; it is changed.

        Raises
        ------
        TrainingError
            If the loss is no longer finite.
        """
        since: list[Errors] = []
        while not state.over:
            since.append(self._step(state.step))
            state.step += 1
            state.over = state.step == self.plan.steps
            if state.over or state.step % self.settings.check_every == 0:
                energy, force = (
                    np.mean([getattr(e, k) for e in since]) for k in ("energy", "force")
                )
                self._note(state, float(energy), float(force))
                since = []

    def finish(self, state: State) -> None:
        """Put the best model that was compared into the net; without a comparison, the last.

        Parameters
        ----------
        state
            The state at the end.
        """
        self.net.module.load_state_dict(state.best or state.model)
        self.net.module.eval()

    def _step(self, step: int) -> Errors:
        from torch.nn.utils import clip_grad_norm_

        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.net.module.train()
        numbers = batch(step, len(self.training), self.settings.batch_size, self.plan.seed)
        found = errors(self.net, [self.training[number] for number in numbers], self.settings)
        if not math.isfinite(float(found.loss)):
            raise TrainingError(
                f"the training broke down: the loss is not finite at step {step}; lower "
                "train.learning_rate, or look for frames with atoms on top of each other"
            )
        trained = self.net.trained
        self.optimizer.zero_grad()
        found.loss.backward(inputs=trained)  # type: ignore[no-untyped-call]
        clip_grad_norm_(trained, LARGEST_GRADIENT)
        self.optimizer.step()
        return Errors(found.loss.detach(), found.energy, found.force)

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.plan.steps, self.settings.rise_steps, self.plan.rate)

    def _note(self, state: State, energy: float, force: float) -> None:
        """Compare with the held-back frames, and write the state."""
        row: dict[str, float] = {"step": state.step}
        held = self._compare() if self.compared else None
        if held:
            row |= {"rmse_e_val": math.sqrt(held.energy), "rmse_f_val": math.sqrt(held.force)}
        row |= {"rmse_e_trn": math.sqrt(energy), "rmse_f_trn": math.sqrt(force)}
        row["lr"] = self._rate(max(state.step - 1, 0))
        state.rows.append(row)
        state.model = self.net.module.state_dict()
        state.optimizer = self.optimizer.state_dict()
        state.random = _random()
        if held:
            self._judge(state, float(held.loss))
        write_state(state, self.plan.folder)

    def _judge(self, state: State, loss: float) -> None:
        """Keep the model if it is the best so far, and end the training if patience is over."""
        state.misses += 1
        if loss < state.best_loss:
            state.best, state.best_loss, state.misses = deepcopy(state.model), loss, 0
        if self.settings.patience and state.misses >= self.settings.patience:
            state.over = True

    def _compare(self) -> Errors:
        self.net.module.eval()
        found = [errors(self.net, [example], self.settings) for example in self.compared]
        return Errors(
            sum((each.loss.detach() for each in found), found[0].loss.new_zeros(())) / len(found),
            float(np.mean([each.energy for each in found])),
            float(np.mean([each.force for each in found])),
        )


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return some items in equal distances, or all if there are no more.

    Parameters
    ----------
    items
        What to choose from.
    most
        Items at most.
    """
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _random() -> Any:
    import torch

    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _set_random(state: Any) -> None:
    import torch

    torch.set_rng_state(state[0])
    if len(state[1]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state[1])
