"""A potential without a run file: the loop from Makers, run by jobflow itself.

Ordered AuCu, 8 atoms; ASE's effective medium theory is used in place of DFT. Every Maker has
defaults; the values given here make networks and trainings small, so that the whole loop takes a
few minutes.

    python examples/makers/gold_copper.py
"""

from __future__ import annotations

from ase.build import bulk
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import InitialData
from ionloop.formats.ase import from_ase
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.schemas.exploration import Stage
from ionloop.schemas.run import SummaryDoc
from ionloop.schemas.selection import TrustWindow

NET = DeepmdSettings(rcut=4.5, neurons=[4, 8], axis_neurons=4, fitting=[16, 16], steps=300)


def main() -> SummaryDoc:
    """Run the loop, keeping everything in memory, and return its summary."""
    crystal = bulk("Au", "fcc", a=3.87, cubic=True) * (1, 1, 2)
    crystal.symbols[::2] = "Cu"
    maker = ConcurrentLearningMaker(
        label=ForceFieldLabelMaker(settings=ForceFieldSettings(model="ase.calculators.emt:EMT")),
        train=DeepmdTrainMaker(settings=NET, n_models=2),
        stages=[Stage(temperatures=[300.0], steps=60, max_turns=1)],
        trust=TrustWindow(low=0.05, high=2.0),
        initial=InitialData(n_perturbed=12),
    )
    flow = maker.make(from_ase([crystal]))
    # jobflow's store with the two additional stores that ionloop needs: one for arrays and files,
    # one for labels. To keep the results, use a store from ionloop.api.open_store("ionloop.db").
    store = JobStore(
        MemoryStore(), additional_stores={"data": MemoryStore(), "labels": MemoryStore()}
    )
    answers = run_locally(flow, store=store, create_folders=True, ensure_success=True)
    return answers[flow.output.uuid][1].output


if __name__ == "__main__":
    summary = main()
    print(summary.reason)
    print(summary.train_errors[0])
