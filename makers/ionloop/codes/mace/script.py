"""Run by the Python of MACE's own environment: answers questions about models, a line for each.

A question is a line of JSON on standard input, its answer one on standard output. ionloop starts a
copy of this file (`ionloop.codes.mace.server`); it imports nothing of ionloop. It ends with its
standard input, and so with the process that asks, or when nothing was asked for a while.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import os
import select
import sys
import warnings
from importlib import metadata
from pathlib import Path

IDLE_SECONDS = 600.0

CALCULATORS = {}
"""Models that were evaluated, by file and its state, the oldest first."""

MOST_MODELS = 16


class Refused(Exception):  # noqa: N818  # a copy of this file is all that MACE's Python sees
    """A question that cannot be answered, with what is to be said of it."""


def main() -> None:
    """Answer questions until there are no more."""
    log, device = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w")
    # What other packages print must not come between the answers.
    with Path(log).open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    warnings.filterwarnings("ignore")
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        print(json.dumps(answer(json.loads(line), device)), file=replies, flush=True)


def answer(question: dict, device: str) -> dict:
    """Answer one question; what went wrong is an answer too.

    Parameters
    ----------
    question
        What is asked under ``ask``, and its arguments.
    device
        Device of torch.
    """
    asked = {"probe": probe, "prepare": prepare, "deliver": deliver, "predict": predict}
    try:
        return asked[question.pop("ask")](device=device, **question)
    except Refused as problem:
        return {"refused": str(problem)}
    except Exception as problem:  # noqa: BLE001  # whatever it is, the one who asked wants to know
        return {"error": f"{type(problem).__name__}: {problem}"}


def probe(device: str) -> dict:
    """Return versions of the packages, and whether the device is there."""
    versions = {name: metadata.version(name) for name in ("mace-torch", "torch", "e3nn")}
    import torch

    kind, _, number = device.partition(":")
    there = kind != "cuda" or int(number or 0) < torch.cuda.device_count()
    return {"versions": versions, "device": there}


def prepare(device: str, model: str, head: str | None, to: str = "", change: tuple = ()) -> dict:
    """Look at a model, and write it with one head, the weights of its last layer changed at random.

    Parameters
    ----------
    device
        Device of torch, without meaning here: the copy is on the CPU.
    model
        Model file.
    head
        Head of a model with several; None for the first that is not for replay.
    to
        Where the copy goes; nowhere without.
    change
        Precision of the copy; standard deviation of the change, as a fraction of that of the
        weights; and its seed.

    Returns
    -------
    dict
        By chemical symbol, in eV, the energies of atoms alone under ``energies``.
    """
    import torch
    from ase.data import chemical_symbols

    net = of_one_head(load(model, "cpu"), head)
    dtype, noise, seed = change or ("float64", 0.0, 0)
    net.to(getattr(torch, dtype))
    if noise:
        last = net.readouts[-1]
        weights = (last.linear_2 if hasattr(last, "linear_2") else last.linear).weight
        draw = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weights += noise * weights.std(correction=0) * draw.to(weights.dtype)
    if to:
        save(net, to)
    symbols = [chemical_symbols[z] for z in net.atomic_numbers.tolist()]
    energies = net.atomic_energies_fn.atomic_energies.flatten().tolist()
    return {"energies": dict(zip(symbols, energies, strict=True))}


def deliver(device: str, model: str, to: str) -> dict:
    """Write a trained model without the head that it had for replay, on the CPU.

    Parameters
    ----------
    device
        Device of torch, without meaning here.
    model, to
        Model file, and where the other goes.
    """
    save(of_one_head(load(model, "cpu"), "Default"), to)
    return {}


def predict(device: str, model: str, atoms: dict) -> dict:
    """Return energy (eV), forces (eV/Å) and stress (eV/Å³, tension positive) of one frame.

    Parameters
    ----------
    device
        Device of torch.
    model
        Model file.
    atoms
        Arguments of ASE's `Atoms`.
    """
    from ase import Atoms
    from ase.data import chemical_symbols

    frame = Atoms(**atoms, pbc=True)
    frame.calc = calculator(model, device)
    if unknown := set(frame.numbers.tolist()) - set(frame.calc.z_table.zs):
        names = ", ".join(chemical_symbols[z] for z in sorted(unknown))
        raise Refused(f"the model {model} does not know {names}")
    return {
        "energy": frame.get_potential_energy(),
        "forces": frame.get_forces().tolist(),
        "stress": frame.get_stress(voigt=False).tolist(),
    }


def calculator(model: str, device: str):
    """Return the calculator of a model file; a file that changed is loaded again.

    Parameters
    ----------
    model
        Model file.
    device
        Device of torch.
    """
    from mace.calculators import MACECalculator

    state = Path(model).stat()
    key = (model, state.st_size, state.st_mtime_ns, state.st_ino)
    if key not in CALCULATORS:
        net = of_one_head(load(model, device), None)
        dtype = str(next(net.parameters()).dtype).removeprefix("torch.")
        CALCULATORS[key] = MACECalculator(models=[net], device=device, default_dtype=dtype)
    CALCULATORS[key] = CALCULATORS.pop(key)
    while len(CALCULATORS) > MOST_MODELS:
        del CALCULATORS[next(iter(CALCULATORS))]
    return CALCULATORS[key]


def load(path: str, device: str):
    """Load a model file.

    Parameters
    ----------
    path
        The file.
    device
        Device of torch.

    Raises
    ------
    Refused
        If it holds no MACE model, or not one of this version.
    """
    import mace
    import torch

    here = f"MACE {mace.__version__} with torch {torch.__version__}"
    try:
        net = torch.load(path, map_location=device, weights_only=False)
    except Exception as problem:  # noqa: BLE001  # unpickling may raise anything
        said = f"{type(problem).__name__}: {problem}".splitlines()[0]
        raise Refused(
            f"{path} cannot be loaded by {here} ({said}): it is no .model file of MACE, or one of "
            "another version; convert it with the version that wrote it, or install that one"
        ) from None
    if type(net).__name__ != "ScaleShiftMACE":
        raise Refused(
            f"{path} holds a {type(net).__name__}, and only a ScaleShiftMACE, as {here} trains and "
            "fine-tunes it, can be used; give a .model file, not a checkpoint or a compiled model"
        )
    return net


def of_one_head(net, head: str | None):
    """Return a model with one head.

    Parameters
    ----------
    net
        The model.
    head
        Head to keep; None for the first that is not for replay.

    Raises
    ------
    Refused
        If there is no such head.
    """
    from mace.tools.scripts_utils import remove_pt_head

    heads = list(getattr(net, "heads", None) or ["Default"])
    if len(heads) == 1:
        return net
    if head is not None and head not in heads:
        raise Refused(f"the model has no head {head!r}; it has {', '.join(heads)}")
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(next(net.parameters()).dtype)
    try:
        return remove_pt_head(net, head)
    finally:
        torch.set_default_dtype(before)


def save(net, path: str) -> None:
    """Write a model so that the file is whole or not there.

    Parameters
    ----------
    net
        The model.
    path
        Where it goes.
    """
    import torch

    part = f"{path}.part"
    torch.save(net.cpu(), part)
    os.replace(part, path)  # noqa: PTH105


if __name__ == "__main__":
    main()
