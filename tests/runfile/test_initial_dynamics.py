from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.preflight.check import check
from ionloop.preflight.cost import estimate, first_labels
from ionloop.preflight.plan import plan
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load

LGPS = Path(__file__).parents[2] / "examples/lgps/LGPS.vasp"
AIMD = {"temperatures": [600, 900], "steps": 100, "skip": 20, "every": 20}
VASP = {"code": "vasp", "preset": "lgps"}


def run_file(**values: Any) -> RunFile:
    return RunFile.model_validate({"structures": [LGPS], **values})


def refused(folder: Path, text: str) -> str:
    (folder / "run.yaml").write_text(f"structures: [{LGPS}]\n{text}")
    with pytest.raises(RunFileError) as caught:
        load(folder / "run.yaml")
    return str(caught.value).removeprefix(f"{folder}/")


def test_a_section_is_one_run_per_temperature() -> None:
    (section,) = run_file(initial={"aimd": [AIMD]}).initial.aimd
    assert section.runs == [
        MolecularDynamics(temperature=t, steps=100, skip=20, every=20) for t in (600, 900)
    ]


def test_every_labeller_but_an_outside_one_runs_it(tmp_path: Path) -> None:
    for code in ("forcefield", "gpaw", "cp2k"):
        assert run_file(initial={"aimd": [AIMD]}, label={"code": code}).flow().jobs
    assert run_file(initial={"aimd": [AIMD]}, label=VASP).flow().jobs
    outside = "label: {code: external, level: x}\n"
    told = refused(
        tmp_path,
        "initial:\n  n_perturbed: 5\n  aimd: [{temperatures: [300], steps: 100}]\n" + outside,
    )
    assert told == (
        "run.yaml, line 4: initial.aimd: the labeller (external) runs no molecular dynamics; "
        "leave it out, and name the labels of a run that was made elsewhere in initial.data"
    )
    told = refused(tmp_path, "initial:\n  relax: true\n" + outside)
    assert told == (
        "run.yaml, line 3: initial.relax: the labeller (external) does not relax; relax the start "
        "structures before the run"
    )


def test_a_run_without_labels_is_refused(tmp_path: Path) -> None:
    told = refused(tmp_path, "initial:\n  aimd:\n    - {temperatures: [300], steps: 5}\n")
    assert told.startswith("run.yaml, line 4: initial.aimd[0]: no frame is kept of 5 steps")
    told = refused(tmp_path, "initial: {aimd: [{temperatures: [0], steps: 50}]}\n")
    assert "initial.aimd[0].temperatures[0] = 0: expected greater than 0" in told


def test_its_labels_are_counted_and_told() -> None:
    both = run_file(initial={"n_perturbed": 40, "aimd": [AIMD]}, label=VASP)
    structures = both.read_structures()
    assert first_labels(both, structures) == 40 + 2 * 4
    assert estimate(both, structures).least.labels == 48
    sentence, perturbed, *_ = plan(both, structures)
    assert sentence == (
        "1. Run molecular dynamics with vasp (vasp) from the start structures: 2 trajectories of "
        "100 steps (0.2 ps), NVT at 600, 900 K; one of every 20 steps after the first 20 is a "
        "label: 8."
    )
    assert "label the 40 frames" in perturbed


def test_every_step_costs_what_a_step_of_aimd_costs() -> None:
    structures = run_file().read_structures()

    def hours(**initial: Any) -> float:
        cost = estimate(run_file(initial=initial, label=VASP), structures).least
        assert cost.core_hours is not None
        return cost.core_hours

    step = 693 / 1000 / 4**2.5  # Miyagawa 2024, for 200 atoms; 50 here
    more = hours(n_perturbed=0, aimd=[AIMD]) - hours(n_perturbed=0)
    assert more == pytest.approx(200 * step, rel=1e-3)


def test_it_is_something_to_train_on() -> None:
    alone = run_file(initial={"n_perturbed": 0, "aimd": [AIMD]}, label={"model": "chgnet"})
    told = [finding.sentence for finding in check(alone).findings if finding.key == "initial"]
    assert told == []


def test_every_start_structure_runs_by_itself(tmp_path: Path) -> None:
    initial = {"n_perturbed": 0, "aimd": [AIMD]}
    two = [LGPS, LGPS.parents[1] / "li3incl6" / "Li3InCl6.vasp"]
    for relax in (False, True):
        flow = run_file(structures=two, initial=initial | {"relax": relax}).flow()
        names = [job.name for job in flow.jobs if "AIMD" in job.name]
        assert names == ["AIMD at 600 K"] * 2 + ["AIMD at 900 K"] * 2
