from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from jobflow import Flow, JobStore, run_locally

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.vasp import run as vasp_run
from ionloop.codes.vasp.potcars import MissingPotcarError
from ionloop.codes.vasp.results import VaspError
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.label.ledger import Ledger
from ionloop.jobs.label.vasp import VaspLabelMaker
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, Labels, LabelStatus, RejectReason

pytestmark = [
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(atomate2|emmet|pymatgen|custodian).*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:(atomate2|emmet|pymatgen|custodian).*"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look often, and work in a folder of the test's own."""
    monkeypatch.setattr(vasp_run, "POLL_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)


def maker(vasp: Any, **settings: Any) -> VaspLabelMaker:
    given = {"encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}}
    chosen = VaspSettings(**given | {"vasp_cmd": vasp.command} | settings)
    return VaspLabelMaker(settings=chosen, floor=0.0, cores=4)


def run(flow: Flow, store: JobStore) -> Any:
    run_locally(flow, store=store, log=False, allow_external_references=True)
    return flow.output.resolve(store)


def stored(store: JobStore, labels: Labels, frames: Frames) -> list[LabelDoc]:
    found = Ledger(store.additional_stores["labels"]).find(frames.ids, labels.level)
    return [found[frame_id] for frame_id in frames.ids]


def test_labels_are_those_of_the_calculator(
    vasp: Any, store: JobStore, gold_copper: Frames
) -> None:
    from ase.calculators.emt import EMT

    from ionloop.codes.common.ase import calculate

    frames = gold_copper[:2]
    labels: Labels = run(maker(vasp).make([frames]), store)
    assert (labels.n_requested, labels.n_accepted, labels.rejections) == (2, 2, [])
    (part,) = labels.frames
    assert part.ids == frames.ids
    assert part.forces is not None and part.virials is not None and part.energies is not None
    for index in range(2):
        truth = calculate(EMT(), frames[index])
        assert part.energies[index] == pytest.approx(truth.energy - 4.0 * 8, abs=1e-7)
        np.testing.assert_allclose(part.forces[index], truth.forces, atol=2e-8)
        np.testing.assert_allclose(part.virials[index], truth.virial, atol=1e-6)
    docs = stored(store, labels, frames)
    assert all(doc.cores == 4 and doc.seconds > 0.1 for doc in docs)
    assert labels.core_seconds == pytest.approx(4 * sum(doc.seconds for doc in docs))
    assert store.count({"name": {"$regex": "^label batch"}}) == 2  # one job per frame


def test_a_label_is_bought_once(vasp: Any, store: JobStore, gold_copper: Frames) -> None:
    run(maker(vasp).make([gold_copper[:1]]), store)
    again: Labels = run(maker(vasp, vasp_gamma_cmd="vasp_gam").make([gold_copper[:1]]), store)
    assert (again.n_accepted, again.n_reused) == (1, 1)
    assert vasp.starts == [gold_copper.ids[0]]


SAVED = {  # what custodian cures: the label is accepted
    "edddav": "ALGO = All",
    "stubborn": "ALGO = All",
}
FAILED = {  # no answer: calculated again when asked for again
    "incurable": "internal error in SET_CORE_WF",
    "cut-vasprun": "Validation failed: VasprunXMLValidator",
    "exit": "Job return code is 3",
    "die": "Validation failed: VasprunXMLValidator",
    "full": "No space left on device",
    "cut-outcar": "OUTCAR.gz is cut short",
}
JUDGED = {  # an answer that is no label, for good
    "nelm": (RejectReason.UNCONVERGED, "electronic steps did not converge"),
    "moved": (RejectReason.MISSHAPED, "0.0866 Å from where it was requested"),
    "nan": (RejectReason.NON_FINITE, "NaN or infinity (forces)"),
    "overflow": (RejectReason.NON_FINITE, "NaN or infinity (forces)"),
}


def test_every_misdeed_has_its_reason_and_the_counts_add_up(
    vasp: Any, store: JobStore, gold_copper: Frames
) -> None:
    misdeeds = [*SAVED, *FAILED, *JUDGED]
    frames = gold_copper[: len(misdeeds)]
    vasp.ask(dict(zip(frames.ids, misdeeds, strict=True)))
    labels: Labels = run(maker(vasp, max_errors=3).make([frames]), store)
    fate = dict(zip(misdeeds, stored(store, labels, frames), strict=True))
    for misdeed in SAVED:
        assert fate[misdeed].status is LabelStatus.ACCEPTED, fate[misdeed].detail
    for misdeed, words in FAILED.items():
        assert fate[misdeed].reason is RejectReason.LABELLER_FAILED, misdeed
        assert words in fate[misdeed].detail
    for misdeed, (reason, words) in JUDGED.items():
        assert fate[misdeed].reason is reason, fate[misdeed].detail
        assert words in fate[misdeed].detail
    assert labels.n_requested == len(misdeeds)
    assert labels.n_accepted == len(SAVED)
    assert labels.rejected_by_reason == {
        "labeller failed": len(FAILED),
        "unconverged": 1,
        "misshaped": 1,
        "non-finite": 2,
    }
    vasp.reset()
    again: Labels = run(maker(vasp, max_errors=3).make([frames]), store)
    assert sorted(vasp.starts) == sorted(
        frame_id
        for frame_id, misdeed in zip(frames.ids, misdeeds, strict=True)
        if misdeed in FAILED
    )
    assert again.n_accepted == len(SAVED) + len(FAILED)


def test_a_level_that_a_handler_changed_is_rejected_for_that_reason(
    vasp: Any, store: JobStore, gold_copper: Frames
) -> None:
    vasp.ask({"*": "tet"})
    tetrahedra = maker(vasp, kpoints=0.5, incar={"ISMEAR": -5, "SIGMA": 0.2})
    labels: Labels = run(tetrahedra.make([gold_copper[:1]]), store)
    (doc,) = stored(store, labels, gold_copper[:1])
    assert doc.reason is RejectReason.OTHER_LEVEL
    assert doc.detail == "the run differs from the request: ISMEAR -5 → 0; SIGMA 0.2 → 0.05"
    assert doc.energy is None and not doc.frame.is_labelled
    assert len(vasp.starts) == 2
    run(tetrahedra.make([gold_copper[:1]]), store)
    assert len(vasp.starts) == 2  # a verdict, not a failure


def test_a_calculation_that_hangs_is_ended(vasp: Any, gold_copper: Frames) -> None:
    vasp.ask({"*": "hang"})
    with pytest.raises(VaspError, match="Frozen job → nothing"):
        maker(vasp, frozen_after=2.0).label(gold_copper[0])
    assert len(vasp.starts) == 1


def test_vasp_ends_with_the_job_that_started_it(
    vasp: Any, gold_copper: Frames, tmp_path: Path
) -> None:
    vasp.ask({"*": "hang"})
    (tmp_path / "job").write_bytes(pickle.dumps((maker(vasp), gold_copper[0])))
    script = "import pickle; maker, frame = pickle.load(open('job', 'rb')); maker.label(frame)"
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    until(lambda: bool(vasp.processes))
    worker.kill()
    worker.wait()
    until(lambda: not psutil.pid_exists(vasp.processes[0]))


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_limits_hold_for_vasp_too(vasp: Any, gold_copper: Frames) -> None:
    strict = maker(vasp, limits=AcceptanceLimits(max_force=0.01))
    assert strict.label(gold_copper[0]).reason is RejectReason.OUTLIER


def test_an_element_without_potcar_costs_no_start(vasp: Any, gold_copper: Frames) -> None:
    lacking = maker(vasp, potcars={"Au": "Au"})
    with pytest.raises(ValueError, match=r"named for Cu; say .* \{Cu: Cu\}"):
        lacking.label(gold_copper[0])
    assert vasp.starts == []


def test_a_worker_with_another_release_of_potcars_starts_nothing(
    vasp: Any, store: JobStore, gold_copper: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's POTCARs have the names and titles of the host's, and other content."""
    from fake_potcars import write_potcars  # type: ignore[import-not-found]
    from pymatgen.core import SETTINGS

    travels = maker(vasp)
    other = write_potcars(tmp_path / "potcars", {"Au": 11, "Cu": 11}, last=4.0)
    with monkeypatch.context() as worker:
        worker.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(other))
        labels: Labels = run(travels.make([gold_copper[:1]]), store)
    assert vasp.starts == []
    assert labels.level == travels.level
    (rejection,) = labels.rejections
    assert rejection.reason is RejectReason.OTHER_LEVEL
    assert "the POTCAR of Au (PBE_54) of this host is PAW_PBE Au 01Jan2026" in rejection.detail


def test_another_version_of_vasp_gives_no_label(vasp: Any, gold_copper: Frames) -> None:
    with pytest.raises(OtherLevelError, match=r"VASP 6\.4\.3 ran and label\.version says 5\.4"):
        maker(vasp, version="5.4").label(gold_copper[0])
    assert maker(vasp, version="6.4").label(gold_copper[0]).energy is not None


def test_a_host_without_potcars_says_what_they_are(
    vasp: Any, gold_copper: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.core import SETTINGS

    there = maker(vasp)
    with monkeypatch.context() as host:
        host.setitem(SETTINGS, "PMG_VASP_PSP_DIR", None)
        with pytest.raises(MissingPotcarError, match=r"or say it in label\.potentials"):
            maker(vasp).batch([gold_copper[:1]], list(gold_copper.ids[:1]))
        said = maker(vasp, potentials=there.settings.potentials)
        said.batch([gold_copper[:1]], list(gold_copper.ids[:1]))
    assert said.level.hash == there.level.hash


def test_a_start_structure_is_relaxed(vasp: Any, store: JobStore, gold_copper: Frames) -> None:
    job = maker(vasp, relax_fmax=0.02).relax([gold_copper[:1]])
    (relaxed,) = run(Flow([job], output=job.output), store)
    assert relaxed.symbols == gold_copper.symbols
    assert relaxed == relaxed.snapped()
    again = maker(vasp).label(relaxed)
    assert again.frame.forces is not None and again.frame.virials is not None
    assert np.abs(again.frame.forces).max() < 0.02
    assert np.abs(again.frame.virials).max() < 0.2


def test_a_relaxation_that_does_not_end_is_told(vasp: Any, gold_copper: Frames) -> None:
    short = maker(vasp, relax_steps=2, relax_fmax=1e-4, max_errors=1)
    with pytest.raises(VaspError, match="corrections: Unconverged → INCAR IBRION = 1"):
        short.settings.relax(gold_copper[0], Path.cwd() / "relax", short.cores)


def test_every_nth_step_of_aimd_is_a_label(vasp: Any, store: JobStore, gold_copper: Frames) -> None:
    run_of_md = MolecularDynamics(temperature=300, steps=20, every=5, skip=5, timestep=2.0)
    job = maker(vasp).aimd([gold_copper[:1]], run_of_md)
    labels: Labels = run(Flow([job], output=job.output), store)
    assert (labels.n_requested, labels.n_accepted) == (3, 3)
    (part,) = labels.frames
    assert part.energies is not None and part.forces is not None
    assert labels.level == maker(vasp).level
    alone = maker(vasp).label(part[1].unlabelled())
    assert alone.energy == pytest.approx(part.energies[1], abs=2e-5)
    assert alone.frame.forces is not None
    np.testing.assert_allclose(alone.frame.forces[0], part.forces[1], atol=2e-5)
    # and a frame of the trajectory is bought
    bought: Labels = run(maker(vasp).make([part.unlabelled()]), store)
    assert bought.n_reused == 3
