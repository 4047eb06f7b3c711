from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.vasp import comparison, results
from ionloop.codes.vasp.inputs import Arrangement, input_set, relaxation, to_structure
from ionloop.codes.vasp.results import VaspError
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.formats.reading import load_structures, read_frames
from ionloop.geometry.perturb import perturb
from ionloop.schemas.frames import Frames

pytestmark = [
    pytest.mark.filterwarnings("ignore:POTCAR data with symbol"),
    pytest.mark.filterwarnings("ignore::pymatgen.io.vasp.sets.BadInputSetWarning"),
    pytest.mark.filterwarnings("ignore:.*is an unconverged VASP run"),
]

TOY = Path(__file__).parents[1] / "toy"
SETTINGS = VaspSettings(encut=300, kpoints="gamma", potcars={"Au": "Au", "Cu": "Cu"})


def gold_and_copper() -> Frames:
    """Return one frame in which the species take turns, as they never do in VASP."""
    (start,) = load_structures([TOY / "AuCu.vasp"])
    frame = perturb(start, 1, displacement=0.15, strain=0.03, seed=5)
    order = np.arange(frame.n_atoms).reshape(2, -1).T.ravel()
    symbols = tuple(frame.symbols[index] for index in order)
    assert symbols[:4] == ("Au", "Cu", "Au", "Cu")
    return Frames(symbols, frame.positions[:, order], frame.cells)


def run(
    stand_in: Any, frame: Frames, folder: Path, settings: VaspSettings = SETTINGS, **changes: Any
) -> Path:
    """Write the inputs of a frame and run the stand-in on them."""
    inputs = input_set(settings, **changes)
    inputs.get_input_set(to_structure(frame)).write_input(folder)
    command = shlex.split(stand_in.command)
    with (folder / "vasp.out").open("w") as out:
        subprocess.run(command, cwd=folder, stdout=out, check=True)
    return folder


@pytest.fixture
def frame() -> Frames:
    return gold_and_copper()


@pytest.fixture(scope="module")
def finished(vasp_of_module: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(vasp_of_module, gold_and_copper(), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run, to be tampered with."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def effective_medium(frame: Frames) -> tuple[float, np.ndarray, np.ndarray]:
    from ase.calculators.emt import EMT

    from ionloop.codes.common.ase import calculate

    truth = calculate(EMT(), frame)
    assert truth.virial is not None
    return truth.energy, truth.forces, truth.virial


def real_file(name: str) -> Path:
    """Return an output of the real VASP that the ASE wheel ships for its tests."""
    import ase.test

    return Path(ase.test.__file__).parent / "testdata" / "vasp" / name


def test_results_come_back_in_the_order_of_the_frame(done: Path, frame: Frames) -> None:
    (result,) = results.read_results(done)
    result = Arrangement.of(frame).restore(result)
    energy, forces, virial = effective_medium(frame)
    assert result.converged
    assert result.energy == pytest.approx(energy - 4.0 * 8, abs=1e-7)  # the free energy
    np.testing.assert_allclose(result.forces, forces, atol=2e-8)
    np.testing.assert_allclose(result.virial, virial, atol=1e-6)
    np.testing.assert_allclose(result.positions, frame.positions[0], atol=1e-6)
    np.testing.assert_allclose(result.cell, frame.cells[0], atol=1e-7)


def test_virial_is_minus_the_strain_derivative_of_the_energy(
    vasp: Any, frame: Frames, done: Path, tmp_path: Path
) -> None:
    step = 1e-3
    energies = []
    for sign in (1, -1):
        strain = np.eye(3) + sign * step * np.diag([0, 0, 1.0])
        strained = Frames(frame.symbols, frame.positions @ strain, frame.cells @ strain)
        folder = run(vasp, strained, tmp_path / f"strain{sign}")
        energies.append(results.read_results(folder)[0].energy)
    derivative = (energies[0] - energies[1]) / (2 * step)
    (result,) = results.read_results(done)
    assert result.virial is not None
    assert abs(result.virial[2, 2]) > 0.5
    assert result.virial[2, 2] == pytest.approx(-derivative, abs=1e-3)


def test_a_left_handed_frame_gets_its_own_forces(vasp: Any, frame: Frames, tmp_path: Path) -> None:
    mirrored = Frames(frame.symbols, -frame.positions, -frame.cells)
    folder = run(vasp, mirrored, tmp_path / "run")
    result = Arrangement.of(mirrored).restore(results.read_results(folder)[0])
    energy, forces, virial = effective_medium(mirrored)
    assert result.energy == pytest.approx(energy - 4.0 * 8, abs=1e-7)
    np.testing.assert_allclose(result.forces, forces, atol=2e-8)
    np.testing.assert_allclose(result.virial, virial, atol=1e-6)
    np.testing.assert_allclose(result.cell, mirrored.cells[0], atol=1e-7)


def test_dpdata_and_ase_read_the_same_from_the_stand_in(done: Path) -> None:
    (ours,) = results.read_results(done)
    for name, fmt in (("vasprun.xml", "vasp/xml"), ("OUTCAR", "vasp/outcar")):
        (theirs,) = read_frames(done / name, fmt)
        assert theirs.energies is not None and theirs.virials is not None
        assert theirs.energies[0] == pytest.approx(ours.energy, abs=1e-6)
        trace = np.trace(theirs.virials[0])
        assert trace == pytest.approx(np.trace(ours.virial), abs=1e-4)
    (by_ase,) = read_frames(done / "vasprun.xml", "vasp-xml")
    np.testing.assert_allclose(by_ase.forces[0], ours.forces, atol=1e-7)
    np.testing.assert_allclose(by_ase.virials[0], ours.virial, atol=1e-4)


@pytest.mark.parametrize("name", ["vasprun_pstress.xml", "vasprun_dfpt.xml"])
def test_files_of_the_real_vasp_give_the_numbers_of_dpdata(name: str, tmp_path: Path) -> None:
    import dpdata

    shutil.copy(real_file(name), tmp_path / "vasprun.xml")
    (ours,) = results.read_results(tmp_path)
    theirs = dpdata.LabeledSystem(str(real_file(name)), fmt="vasp/xml").data
    assert ours.energy == theirs["energies"][0]
    np.testing.assert_allclose(
        np.linalg.norm(ours.forces, axis=1), np.linalg.norm(theirs["forces"][0], axis=1)
    )
    # dpdata turns the cell: the eigenvalues of the virial stay.
    np.testing.assert_allclose(
        np.linalg.eigvalsh(ours.virial),
        np.linalg.eigvalsh(theirs["virials"][0]),
        rtol=1e-6,
    )


def test_the_sign_of_the_virial_is_that_of_the_real_vasp() -> None:
    """VASP writes the virial itself, in eV, as "Total" of "FORCE on cell"."""
    path = real_file("OUTCAR_example_1")
    (total,) = [line for line in path.read_text().splitlines() if line.startswith("  Total   ")]
    xx, yy, zz, xy, yz, zx = map(float, total.split()[1:])
    (frames,) = read_frames(path, "vasp/outcar")
    written = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    assert frames.virials is not None
    np.testing.assert_allclose(frames.virials[0], written, atol=1e-4)
    # in kB, positive where the cell wants to expand: the convention of `read_results`
    kilobar = np.array([-4.29429, -4.58894, -4.50342])
    np.testing.assert_allclose(kilobar * 5768.42 / results.KBAR, [xx, yy, zz], atol=1e-4)


def test_a_run_as_asked_for_is_of_the_level_asked_for(done: Path, frame: Frames) -> None:
    assert comparison.compare_level(SETTINGS, frame, done) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("SIGMA = 0.2", "SIGMA 0.05 → 0.2"),
        ("LREAL = Auto", "LREAL False → Auto"),
        ("ADDGRID = True", "ADDGRID unset → True"),
        ("PREC = Normal", "PREC Accurate → Normal"),
        ("KSPACING = 0.3", "KSPACING unset → 0.3"),
    ],
)
def test_a_changed_tag_is_another_level(
    done: Path, frame: Frames, change: str, sentence: str
) -> None:
    with (done / "INCAR").open("a") as file:
        file.write(f"{change}\n")
    difference = comparison.compare_level(SETTINGS, frame, done)
    assert difference.startswith(f"the run differs from the request: {sentence}")


@pytest.mark.parametrize("change", ["ALGO = All", "NELM = 200", "ISYM = -1", "AMIX = 0.1"])
def test_the_way_to_the_result_may_change(done: Path, frame: Frames, change: str) -> None:
    with (done / "INCAR").open("a") as file:
        file.write(f"{change}\nLWAVE = True\nNCORE = 4\n")
    assert comparison.compare_level(SETTINGS, frame, done) == ""


def test_other_k_points_are_another_level(done: Path, frame: Frames) -> None:
    points = done / "KPOINTS"
    points.write_text(points.read_text().replace("Gamma", "Monkhorst"))
    assert comparison.compare_level(SETTINGS, frame, done) == ""  # 1×1×1 is Γ either way
    points.write_text(points.read_text().replace("1 1 1", "2 2 2"))
    assert "KPOINTS Gamma 1×1×1 → Monkhorst 2×2×2" in comparison.compare_level(
        SETTINGS, frame, done
    )
    points.unlink()
    assert "→ none" in comparison.compare_level(SETTINGS, frame, done)


def test_what_vasp_overruled_is_another_level(done: Path, frame: Frames) -> None:
    path = done / "vasprun.xml"
    head, tail = path.read_text().split("<parameters>")
    path.write_text(head + "<parameters>" + tail.replace("    300.00000000", "    400.00000000", 1))
    difference = comparison.compare_level(SETTINGS, frame, done)
    assert difference.endswith("VASP used ENMAX 400 where INCAR says ENCUT 300")


def test_another_potcar_or_order_of_elements_is_another_level(
    vasp: Any, frame: Frames, done: Path
) -> None:
    titles = (done / "POTCAR").read_text().split(" End of Dataset\n")
    (done / "POTCAR").write_text(" End of Dataset\n".join([titles[1], titles[0], ""]))
    subprocess.run(shlex.split(vasp.command), cwd=done, check=True, stdout=subprocess.DEVNULL)
    difference = comparison.compare_level(SETTINGS, frame, done)
    assert "POTCAR Au Cu → Cu Au" in difference
    assert "the atoms, in the order of the POTCAR: Au Cu → Cu Au" in difference


def test_another_version_of_vasp_than_the_level_says_is_another_level(
    done: Path, frame: Frames
) -> None:
    comparison.check_program(SETTINGS, frame, done)
    comparison.check_program(SETTINGS.model_copy(update={"version": "6.4"}), frame, done)
    old = SETTINGS.model_copy(update={"version": "5.4.4"})
    with pytest.raises(OtherLevelError, match=r"VASP 6\.4\.3 ran and label\.version says 5\.4\.4"):
        comparison.check_program(old, frame, done)
    # 6.4 is not 6.40
    path = done / "vasprun.xml"
    path.write_text(path.read_text().replace("6.4.3 ", "6.40.1"))
    with pytest.raises(OtherLevelError, match=r"or set label\.version: '6\.40\.1'"):
        comparison.check_program(SETTINGS.model_copy(update={"version": "6.4"}), frame, done)


def test_a_run_with_another_potcar_of_the_same_name_is_of_another_level(
    done: Path, frame: Frames
) -> None:
    path = done / "POTCAR"
    text = path.read_text()
    path.write_text(text.replace("3.00000000E+00", "4.00000000E+00", 1))
    with pytest.raises(OtherLevelError, match="the POTCAR was PAW_PBE Au 01Jan2026, sha256") as e:
        comparison.check_program(SETTINGS, frame, done)
    assert "and the labels are of PAW_PBE Au 01Jan2026, sha256" in str(e.value)
    assert "the POTCAR was PAW_PBE Cu" not in str(e.value)
    # what lies in the folder is not what VASP says it read
    path.write_text(text.replace("01Jan2026", "06Sep2000"))
    with pytest.raises(OtherLevelError, match="VASP read the potential PAW_PBE Au 01Jan2026, and"):
        comparison.check_program(SETTINGS, frame, done)
    path.unlink()
    with pytest.raises(VaspError, match="the potentials of the run, cannot be read"):
        comparison.check_program(SETTINGS, frame, done)


def test_what_a_rescue_may_add_is_no_other_level_unless_it_was_asked_for(
    done: Path, frame: Frames
) -> None:
    with (done / "INCAR").open("a") as file:
        file.write("NBANDS = 20\nSYMPREC = 1e-8\n")
    assert comparison.compare_level(SETTINGS, frame, done) == ""
    asked = SETTINGS.model_copy(update={"incar": {"NBANDS": 16}})
    assert comparison.compare_level(asked, frame, done).endswith("NBANDS 16 → 20")


def test_a_rescue_that_leaves_the_ground_state_is_noticed(done: Path, frame: Frames) -> None:
    with (done / "INCAR").open("a") as file:
        file.write("ALGO = Exact\n")
    assert "ALGO = Exact does not end" in comparison.compare_level(SETTINGS, frame, done)


def test_a_tag_that_pymatgen_replaces_is_noticed(
    done: Path, frame: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "plain_tags", lambda settings: {"ISMEAR": -5})
    assert "ISMEAR -5 → 0" in comparison.compare_level(SETTINGS, frame, done)


def test_k_points_by_spacing_are_compared(vasp: Any, frame: Frames, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"kpoints": 1.0})
    folder = run(vasp, frame, tmp_path / "run", settings)
    assert not (folder / "KPOINTS").exists()
    assert comparison.compare_level(settings, frame, folder) == ""
    assert "KSPACING unset → 1" in comparison.compare_level(SETTINGS, frame, folder)


def test_a_run_that_needs_all_its_steps_is_unconverged(
    vasp: Any, frame: Frames, tmp_path: Path
) -> None:
    vasp.ask({"*": "nelm"})
    folder = run(vasp, frame, tmp_path / "run")
    assert not results.read_results(folder)[0].converged
    assert results.is_unconverged(folder)


def test_files_that_are_no_result_are_told(done: Path, frame: Frames, tmp_path: Path) -> None:
    assert not results.is_unconverged(done)
    path = done / "vasprun.xml"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(VaspError, match=r"vasprun\.xml cannot be read, it may be cut short"):
        results.read_results(done)
    head, tail = text.split(" <calculation>")[0], text.split(" </calculation>")[1]
    path.write_text(head + tail)
    with pytest.raises(VaspError, match="may be cut short"):
        results.read_results(done)
    with pytest.raises(VaspError, match="VASP wrote no"):
        results.read_results(tmp_path)


def test_an_outcar_without_its_end_is_told(done: Path, tmp_path: Path) -> None:
    results.check_ended(done)
    text = (done / "OUTCAR").read_text()
    (done / "OUTCAR").write_text(text[: text.index("General timing")])
    with pytest.raises(VaspError, match="OUTCAR is cut short"):
        results.check_ended(done)
    with pytest.raises(VaspError, match="VASP wrote no"):
        results.check_ended(tmp_path)


def test_a_relaxation_ends_where_forces_vanish(vasp: Any, frame: Frames, tmp_path: Path) -> None:
    changes = relaxation(SETTINGS)
    folder = run(vasp, frame, tmp_path / "run", **changes)
    end = Arrangement.of(frame).restore_frame(results.read_final_frame(folder))
    assert end.symbols == frame.symbols
    _, forces, virial = effective_medium(end)
    assert np.abs(forces).max() < SETTINGS.relax_fmax
    assert np.abs(virial).max() < 0.1
    short = relaxation(SETTINGS.model_copy(update={"relax_steps": 3}))
    folder = run(vasp, frame, tmp_path / "short", **short)
    with pytest.raises(VaspError, match=r"did not converge \(ionic steps\)"):
        results.read_final_frame(folder)


def test_the_crash_message_says_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "vasp.out").write_text(" a line\n ERROR: VASP is unwell\n")
    (tmp_path / "custodian.json").write_text(
        '[{"corrections": [{"errors": ["brmix"], "actions": [{"dict": "INCAR", '
        '"action": {"_set": {"IMIX": 1}}}]}, {"errors": ["coef"], "actions": null}]}]'
    )
    words = results.crash_message(RuntimeError("gave up"), tmp_path)
    assert words == (
        "gave up; custodian's corrections: brmix → INCAR IMIX = 1; coef → nothing; "
        "VASP's last output: a line / ERROR: VASP is unwell"
    )


def test_the_last_words_of_vasp_are_never_raw_bytes(tmp_path: Path) -> None:
    (tmp_path / "vasp.out").write_bytes(b"\x1b[31m\x00\xffLAPACK: Routine ZPOTRF failed!\n")
    sentence = results.crash_message(RuntimeError("no vasprun.xml"), tmp_path)
    assert "LAPACK: Routine ZPOTRF failed!" in sentence
    assert sentence.isprintable()
