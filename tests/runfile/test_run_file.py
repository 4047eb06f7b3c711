from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ionloop.formats.reading import read_frames
from ionloop.runfile.errors import RunFileError
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import allowed_keys, load
from ionloop.schemas.selection import TrustWindow

ROOT = Path(__file__).parents[2]
LGPS = ROOT / "examples/lgps/LGPS.vasp"
LEAST = f"structures: [{LGPS}]\n"
STAGE_OF = "stages:\n  - {{temperatures: [300], {}}}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(RunFileError) as caught:
        load(written(folder, text))
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_structures_alone_are_a_run_file(tmp_path):
    run_file = load(written(tmp_path, LEAST))
    assert run_file.label.maker().level.settings["model"] == "7net-0"
    assert run_file.trust == TrustWindow(low=0.12, high=0.25)
    assert run_file.types() == ["Li", "Ge", "P", "S"]


def test_paths_are_relative_to_the_run_file(tmp_path):
    text = """
structures: [start.vasp]
store: results/my.db
initial: {data: [{path: old, same_level: true}]}
label: {checkpoint: best.pth}
"""
    run_file = load(written(tmp_path, text))
    assert run_file.structures == [tmp_path / "start.vasp"]
    assert run_file.store == str(tmp_path / "results/my.db")
    assert run_file.scratch_folder == tmp_path / "results/scratch"
    assert run_file.initial.data[0].path == str(tmp_path / "old")
    assert run_file.label.checkpoint == tmp_path / "best.pth"


def test_another_store_takes_scratch_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_file = load(written(tmp_path, LEAST)).with_store("demo/ionloop.db")
    assert run_file.store == str(tmp_path / "demo/ionloop.db")
    assert run_file.scratch_folder == tmp_path / "demo/scratch"


@pytest.mark.parametrize(
    "text",
    [
        "structures: ['${NOWHERE}/start.vasp']",
        f"{LEAST}store: ${{NOWHERE}}run.db",
        f"{LEAST}scratch: ${{NOWHERE}}",
        f"{LEAST}label: {{checkpoint: '${{NOWHERE}}/best.pth'}}",
        f"{LEAST}initial: {{data: [{{path: '${{NOWHERE}}/old', same_level: true}}]}}",
    ],
)
def test_an_unset_variable_in_a_files_name_is_refused(tmp_path, text):
    (line,) = refused(tmp_path, text)
    assert line.startswith("run.yaml: ")
    assert "${NOWHERE}" in line
    assert line.endswith("the environment variable NOWHERE is not set")


def test_variables_in_files_names_are_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", str(tmp_path / "place"))
    text = "structures: ['${PLACE}/start.vasp']\nstore: ${PLACE}/my.db\n"
    run_file = load(written(tmp_path, text))
    assert run_file.structures == [tmp_path / "place/start.vasp"]
    assert run_file.store_file == tmp_path / "place/my.db"


def test_a_server_is_left_as_it_is(tmp_path):
    url = "mongodb://host/base"
    run_file = load(written(tmp_path, f"{LEAST}store: {url}\n"))
    assert run_file.store == url
    assert run_file.store_file is None


def test_settings_reach_their_makers(tmp_path):
    text = f"""{LEAST}
label: {{model: chgnet, batch_size: 7, floor: 0.5}}
train: {{n_models: 3, steps: 100, warm_steps: 50, rcut: 5.0}}
explore: {{batch_size: 2, perturbation: {{displacement: 0.3}}, skin: 1.0}}
select: {{max_labels: 11}}
production: {{steps: 900, warm_learning_rate: 2.0e-4}}
"""
    maker = load(written(tmp_path, text)).maker()
    assert (maker.label.settings.model, maker.label.batch_size, maker.label.floor) == (
        "chgnet",
        7,
        0.5,
    )
    assert (maker.train.n_models, maker.train.settings.steps) == (3, 100)
    assert maker.train.type_map == ["Li", "Ge", "P", "S"]
    assert (maker.explore.batch_size, maker.explore.settings.skin) == (2, 1.0)
    assert maker.explore.perturbation.displacement == 0.3
    assert maker.select.max_labels == 11


def test_production_inherits_the_training_and_overrides_it(tmp_path):
    train = "train: {n_models: 3, steps: 100, warm_steps: 50, rcut: 5.0, validation_fraction: 0.2}"
    production = "production: {steps: 900, rcut_smth: 1.0}"
    maker = load(written(tmp_path, f"{LEAST}\n{train}\n{production}\n")).maker()
    potential = maker.production
    assert (potential.n_models, potential.min_models) == (1, 1)
    assert potential.validation_fraction == maker.train.validation_fraction == 0.2
    assert (potential.settings.steps, potential.settings.warm_steps) == (900, 900)
    assert (potential.settings.rcut, potential.settings.rcut_smth) == (5.0, 1.0)
    assert maker.warm_production


def test_a_cold_production_does_not_warm_start(tmp_path):
    text = f"{LEAST}train: {{warm_steps: 50}}\nproduction: {{warm_start: false}}\n"
    maker = load(written(tmp_path, text)).maker()
    assert not maker.warm_production
    assert maker.production.settings.warm_steps is None


def test_flow_has_the_steps_of_the_loop(tmp_path):
    run_file = load(written(tmp_path, f"{LEAST}validation: {{temperatures: [300]}}\n"))
    names = [job.name for job in run_file.flow().jobs]
    assert names[-1] == "summarise run"
    assert any(name.startswith("production") for name in names)
    assert any(name.startswith("validation") for name in names)


def test_run_file_survives_json(tmp_path):
    run_file = load(
        written(tmp_path, f"{LEAST}train: {{n_models: 3}}\nproduction: {{rcut: 5.5}}\n")
    )
    again = RunFile.model_validate_json(run_file.model_dump_json())
    assert again == run_file
    assert again.production.overrides == {"rcut": 5.5}


def test_unknown_key_names_the_nearest(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}trian: {{}}\n")
    assert line.startswith("run.yaml, line 2: trian: unknown key; did you mean 'train'? Known here")


def test_unknown_key_of_a_code_names_its_path_and_line(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}train:\n  steps: 10\n  lerning_rate_start: 1\n")
    assert line.startswith("run.yaml, line 4: train.lerning_rate_start: unknown key")
    assert "'learning_rate_start'" in line
    assert "batch_size" in line


def test_production_knows_the_keys_of_the_training(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}production: {{n_modles: 2}}\n")
    assert "did you mean 'n_models'" in line
    assert "learning_rate_start" in line


def test_wrong_windows_are_refused_by_run_and_by_stage(tmp_path):
    text = f"""{LEAST}
trust: {{low: 0.3, high: 0.2}}
stages:
  - temperatures: [300]
    steps: 100
    trust: {{low: 0.5, high: 0.5}}
"""
    assert refused(tmp_path, text) == [
        "run.yaml, line 3: trust: low (0.3) must be below high (0.2)",
        "run.yaml, line 7: stages[0].trust: low (0.5) must be below high (0.5)",
    ]


def test_wrong_values_name_key_value_and_what_is_expected(tmp_path):
    text = f"""{LEAST}
train: {{batch_size: lots, n_models: 1}}
explore: {{code: openmm}}
stages: [{{temperatures: [], steps: many}}]
"""
    assert refused(tmp_path, text) == [
        "run.yaml, line 3: train.batch_size = 'lots': expected a valid integer or 'auto'",
        "run.yaml, line 4: explore.code = 'openmm': unknown code; known: lammps, ase",
        "run.yaml, line 5: stages[0].steps = 'many': expected a valid integer",
        "run.yaml, line 5: stages[0].temperatures = []: List should have at least 1 item, not 0",
    ]


def test_pressures_of_nvt_are_refused(tmp_path):
    told = refused(tmp_path, LEAST + STAGE_OF.format("steps: 200, pressures: [1, 1000]"))
    assert told == [
        "run.yaml, line 3: stages[0].pressures = [1.0, 1000.0]: 2 pressures, but NVT has none: "
        "every trajectory would run as often; name one, or an NPT ensemble"
    ]
    one = load(written(tmp_path, LEAST + STAGE_OF.format("steps: 200, pressures: [5]")))
    several = "steps: 200, pressures: [1, 1000], ensemble: npt-iso"
    two = load(written(tmp_path, LEAST + STAGE_OF.format(several)))
    assert [len(each.stages[0].conditions) for each in (one, two)] == [1, 2]
    validation = "\nvalidation: {temperatures: [300], pressures: [1, 1000]}\n"
    (why,) = refused(tmp_path, LEAST + STAGE_OF.format("steps: 200") + validation)
    assert "validation.pressures = [1.0, 1000.0]: 2 pressures, but NVT has none" in why


def test_a_validation_too_large_to_be_meant_is_refused_by_its_key(tmp_path):
    text = "\nvalidation: {temperatures: [300], n_structures: 20000, supercell: [100, 100, 100]}\n"
    told = refused(tmp_path, LEAST + STAGE_OF.format("steps: 200") + text)
    assert [line.split(" = ")[0].split()[-1] for line in told] == [
        "validation.n_structures",
        "validation.supercell",
    ]
    assert "repeats the cell more than 10000 times" in told[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", 20), (", skip: 0", 1), (", skip: 5", 5), (", skip: 200", 200)],
)
def test_a_tenth_of_a_trajectory_is_warm_up_unless_told_otherwise(tmp_path, given, expected):
    stage = load(written(tmp_path, LEAST + STAGE_OF.format(f"steps: 200{given}"))).stages[0]
    assert stage.warm_up == expected


def test_deviation_needs_two_models(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}train: {{n_models: 1, min_models: 1}}\n")
    assert line.startswith("run.yaml, line 2: train: min_models (1) must be 2 or more")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no keys"),
        ("structures: []\n", "structures = []: List should have at least 1 item"),
        ("name: lgps\n", "run.yaml: structures is missing"),
        ("structures: [a\n", "run.yaml, line 2: this is not YAML"),
        ("name: a\nname: b\n", "run.yaml, line 2: this is not YAML: found duplicate key"),
        ("structures: [a]\nname: ../a\n", "name = '../a'"),
        ("structures: [a]\nlabel: chgnet\n", "label = 'chgnet': expected a valid dictionary\n"),
    ],
)
def test_broken_files_are_refused_with_a_sentence(tmp_path, text, told):
    assert told in "\n".join([*refused(tmp_path, text), ""])


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(RunFileError, match="does not exist; `ionloop init` writes"):
        load(tmp_path / "none.yaml")


def keys() -> list[str]:
    return allowed_keys((), {})


@given(key=st.sampled_from(keys()), place=st.integers(0, 3), letter=st.sampled_from("jqz"))
def test_one_wrong_letter_finds_the_key(tmp_path_factory, key, place, letter):
    typo = key[:place] + letter + key[place + 1 :]
    assume(typo != key)
    lines = refused(tmp_path_factory.mktemp("typo"), f"{LEAST}{typo}: 1\n")
    assert f"{typo}: unknown key; did you mean {key!r}" in lines[-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trust: {low: .nan, high: 1.0}", "trust.low = nan: expected a finite number"),
        ("stages: [{temperatures: [.inf], steps: 9}]", "stages[0].temperatures[0] = inf: "),
        ('trust: {low: 0.1, high: "inf"}', "trust.high = 'inf': expected a finite number"),
        ("initial: {displacement: -.inf}", "initial.displacement = -inf: expected a finite"),
        ("label: {code: vasp, incar: {SIGMA: .nan}}", "label.incar.SIGMA = nan: "),
        ("train: {steps: 99999999999999999999999}", "expected a smaller number"),
        (f"seed: {2**63 - 1}", "seed = "),
        (f"name: {'x' * 201}", "at most 200 characters"),
        ("train: {axis_neurons: 64, neurons: [10, 20]}", "axis_neurons (64) must not be above"),
        ("train: {command: ''}", "train.command = '': a command is needed"),
        ('explore: {command: "srun \'lmp"}', "no closing quotation"),
        ("label: {code: gpaw, command: '  '}", "label.command = '  ': a command is needed"),
    ],
)
def test_a_value_that_nothing_can_be_done_with_is_refused_where_it_stands(text, sentence, tmp_path):
    (line,) = refused(tmp_path, LEAST + text)
    assert line.startswith("run.yaml, line 2: ")
    assert sentence in line


def test_a_key_that_holds_itself_is_refused(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}initial: &a\n  data: [*a]\n")
    assert line.startswith("run.yaml, line 2: initial.data[0] holds itself")


def test_a_tolerance_below_zero_is_refused(tmp_path):
    (line,) = refused(tmp_path, f"{LEAST}select: {{tolerance: -1}}\n")
    assert line.startswith("run.yaml, line 2: select.tolerance")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: my run", "expected letters, digits, '.', '_' and '-', the first a letter or"),
        ("resources: {label: {time: 2 days}}", "expected [days-]hours:minutes:seconds, such as"),
    ],
)
def test_a_form_is_said_in_words_not_as_a_regular_expression(tmp_path, text, words):
    (line,) = refused(tmp_path, f"{LEAST}{text}\n")
    assert words in line
    assert not set("^$\\") & set(line)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("validation: {temperatures: [300], supercell: [100, 100, 100]}", "validation.supercell"),
        ("validation: {temperatures: [300], n_structures: 1000000}", "validation.n_structures"),
        ("train: {rcut: 60}", "train.rcut"),
        ("initial: {strain: 0.99}", "initial.strain"),
        ("explore: {perturbation: {strain: 0.99}}", "explore.perturbation.strain"),
    ],
)
def test_sizes_that_no_run_can_bear_are_refused_where_they_stand(text, key, tmp_path):
    (line,) = refused(tmp_path, f"structures: [a.vasp]\n{text}")
    assert key in line


def test_structures_are_read_once(tmp_path, monkeypatch):
    read = []

    def counted(path, *arguments):
        read.append(path)
        return read_frames(path, *arguments)

    for module in ("runfile.model", "formats.reading"):
        monkeypatch.setattr(f"ionloop.{module}.read_frames", counted)
    run_file = load(written(tmp_path, LEAST))
    assert run_file.flow().jobs
    assert read == run_file.structures
