"""A run file that was changed for a run under way: what is taken over, and what is refused."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow, Job, JobConfig, JobStore, job, run_locally

from ionloop.engines.local.journal import Journal
from ionloop.engines.local.runner import LocalRunner
from ionloop.flows.concurrent_learning.decision import Limits
from ionloop.flows.distillation.rounds import STUDENTS
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.tolerances import changed, in_force, updated
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.monitor.records import find_run
from ionloop.runfile.model import RunFile
from ionloop.runfile.reading import load
from ionloop.runfile.tolerances import OtherSettingsError, may_change
from ionloop.runs import launch, records
from ionloop.schemas.frames import Frames
from ionloop.schemas.run import RunDoc
from ionloop.stores.connect import collection, open_store

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")
LGPS = Path(__file__).parents[2] / "examples/lgps/LGPS.vasp"


def write(folder: Path, text: str = "") -> RunFile:
    path = folder / "run.yaml"
    path.write_text(f"name: lgps\nstructures: [{LGPS}]\n{text}")
    return load(path)


def document(store_url: str) -> RunDoc:
    with closing(open_store(store_url)) as store:
        return find_run(store, "lgps")


def test_a_changed_floor_is_taken_over_and_recorded(tmp_path: Path) -> None:
    begun = write(tmp_path)
    records.enter(begun)
    given = write(tmp_path, "label: {floor: 0.5, limits: {max_force: 20}}\ncores: 1\n")
    found = launch.take_over(begun.store, None, given)
    words = sorted(change.description for change in found)
    assert words[:2] == ["cores: none → 1", "label.floor: 0.9 → 0.5"]
    assert words[2].startswith("label.limits.max_force: ")
    now = document(begun.store)
    assert now.run_file["label"]["floor"] == 0.5
    assert now.changes == found
    assert now.changes[0].time > now.started
    assert launch.take_over(begun.store, None, given) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 2", "seed: 1 → 2"),
        ("train: {steps: 7}", "train.steps: "),
        ("trust: {low: 0.3, high: 0.4}", "trust.low: 0.12 → 0.3"),
        ("stages: [{temperatures: [300, 600, 900], steps: 9000}]", "stages[0].steps: 2000 → 9000"),
        ("validation: {temperatures: [300]}", "validation.temperatures: none → "),
        ("label: {floor: 0.5, model: chgnet}", "label.model: 7net-0 → chgnet"),
        ("explore: {limits: {distance_fraction: 0.9}}", "explore.limits.distance_fraction: "),
    ],
)
def test_what_defines_the_results_is_refused_by_its_key(
    tmp_path: Path, text: str, told: str
) -> None:
    begun = write(tmp_path)
    records.enter(begun)
    with pytest.raises(OtherSettingsError, match=r"ionloop resume lgps.* another name") as refused:
        launch.take_over(begun.store, None, write(tmp_path, text))
    assert told in str(refused.value)
    assert "floor" not in str(refused.value)
    assert document(begun.store).changes == []


@pytest.mark.parametrize(("timestep", "refused"), [(2, False), (1, True)])
def test_what_the_last_stage_says_too_is_no_other_setting(
    tmp_path: Path, timestep: int, refused: bool
) -> None:
    """Version 0.1 stored a time step of the validation, today it is that of the last stage."""
    stages = f"stages: [{{{{temperatures: [300], steps: 2000, timestep: {timestep}}}}}]"
    text = stages + "\nvalidation: {{temperatures: [300]{}}}\n"
    begun = write(tmp_path, text.format(", timestep: 2"))
    records.enter(begun)
    given = write(tmp_path, text.format(""))
    if refused:
        with pytest.raises(OtherSettingsError, match=r"validation\.timestep: 2\.0 → 1\.0\)"):
            launch.take_over(begun.store, None, given)
    else:
        assert launch.take_over(begun.store, None, given) == []


def test_a_run_of_an_earlier_version_goes_on_with_its_learning_rates(tmp_path: Path) -> None:
    """Versions before the rates fitted the steps stored fixed ones where none were given."""
    former = "learning_rate_start: 1.0e-3, learning_rate_stop: 3.5e-8, warm_learning_rate: 1.0e-4"
    records.enter(begun := write(tmp_path, f"train: {{{former}}}\n"))
    assert launch.take_over(begun.store, None, write(tmp_path)) == []
    launch.take_over(begun.store, None, write(tmp_path, "cores: 1\n"))
    now = document(begun.store).run_file["train"]
    assert (now["learning_rate_stop"], now["warm_learning_rate"]) == (3.5e-8, 1e-4)
    with pytest.raises(OtherSettingsError, match=r"train\.learning_rate_stop: 3\.5e-08 → 1e-06"):
        launch.take_over(
            begun.store, None, write(tmp_path, "train: {learning_rate_stop: 1.0e-6}\n")
        )


def test_a_rate_that_was_given_is_not_left_open_later(tmp_path: Path) -> None:
    records.enter(begun := write(tmp_path, "train: {learning_rate_stop: 1.0e-6}\n"))
    with pytest.raises(OtherSettingsError, match=r"learning_rate_stop: 1e-06 → none"):
        launch.take_over(begun.store, None, write(tmp_path))


def test_what_a_validation_that_there_is_not_would_do_is_no_setting(tmp_path: Path) -> None:
    begun = write(tmp_path, "validation: {timestep: 1}")
    records.enter(begun)
    assert launch.take_over(begun.store, None, write(tmp_path)) == []


def test_every_tolerance_is_a_key_of_some_code() -> None:
    from ionloop.runfile.sections.registry import CODES
    from ionloop.runfile.tolerances import TOLERANCES

    for part, keys in TOLERANCES.items():
        sections = CODES.get(part.rpartition(".")[2], CODES["train"]).values()
        known = {key for section in sections for key in section.model_fields}
        assert keys & known
        assert all(may_change(f"{part}.{key}") for key in keys)


@job(config=JobConfig(expose_store=True))
def look(maker: Any, part: str | None = None) -> Any:
    """Return what is in force where a job runs."""
    return [changed(part), in_force(maker, part)]


def looked(store: JobStore, maker: Any, **metadata: Any) -> Any:
    asked = assign(look(maker), metadata.pop("role"), "look")
    asked.update_metadata({"run": "lgps", **metadata}, dynamic=False)
    run_locally(Flow([asked]), store=store, log=False, ensure_success=True)
    return asked.output.resolve(store)


def test_a_job_entered_before_has_in_force_what_was_changed_since(tmp_path: Path) -> None:
    begun = write(tmp_path)
    records.enter(begun)
    text = "label: {floor: 0.5, limits: {max_force: 20}}\ntrain: {min_models: 3, cores: 2}\n"
    launch.take_over(begun.store, None, write(tmp_path, f"{text}limits: {{max_turns: 9}}\n"))
    with closing(open_store(begun.store)) as store:
        values, label = looked(store, ForceFieldLabelMaker(), role="label")
        assert (values["floor"], label.floor, label.settings.limits.max_force) == (0.5, 0.5, 20)
        assert label.allowance == ForceFieldLabelMaker.allowance
        _, train = looked(store, DeepmdTrainMaker(), role="train")
        assert (train.min_models, train.cores) == (3, 2)
        one = DeepmdTrainMaker(n_models=1, min_models=1)
        _, production = looked(store, one, role="train", part="production")
        assert (production.min_models, production.cores) == (1, 2)
        assert looked(store, ForceFieldLabelMaker(), role="explore")[0] == {}


def test_a_production_of_another_code_takes_nothing_of_the_section_train(
    tmp_path: Path, toy: Path
) -> None:
    other = "production: {code: 'springs:SpringsSection'}\n"
    begun = write(tmp_path, other)
    records.enter(begun)
    launch.take_over(begun.store, None, write(tmp_path, f"train: {{cores: 2}}\n{other}"))
    with closing(open_store(begun.store)) as store:
        assert looked(store, DeepmdTrainMaker(), role="train")[1].cores == 2
        maker = DeepmdTrainMaker()
        assert looked(store, maker, role="train", part="production") == [{}, maker]


def test_the_students_explorer_has_tolerances_of_its_own(tmp_path: Path) -> None:
    text = (
        "train: {{code: sevennet}}\nexplore: {{code: ase}}\n"
        "production: {{code: deepmd, teacher: {{factor: {}, explore: {{code: lammps{}}}}}}}\n"
    )
    begun = write(tmp_path, text.format(1, ""))
    records.enter(begun)
    launch.take_over(begun.store, None, write(tmp_path, text.format(1, ", command: my-lmp")))
    with closing(open_store(begun.store)) as store:
        part = {"role": "explore", "part": STUDENTS}
        assert looked(store, LammpsExploreMaker(), **part)[1].settings.command == "my-lmp"
        assert looked(store, LammpsExploreMaker(), role="explore")[0] == {}
    with pytest.raises(OtherSettingsError, match=r"production\.teacher\.factor: 1\.0 → 2\.0"):
        launch.take_over(begun.store, None, write(tmp_path, text.format(2, "")))


def test_updated_leaves_strange_keys_alone() -> None:
    assert updated(Limits(max_turns=3), {"floor": 1.0}) == Limits(max_turns=3)
    assert updated(Limits(max_turns=3), {"max_turns": 4}) == Limits(max_turns=4)


@pytest.mark.integration
def test_a_run_stopped_by_a_floor_goes_on_with_another(
    tmp_path: Path, toy: Path, gold_copper: Frames
) -> None:
    strict = "label: {model: 'toy_labeller:ToyLabeller', options: {nan_every: 3}, allowance: 0"
    begun = write(tmp_path, strict + "}")
    run = records.enter(begun)
    flow = begun.label.maker().make([gold_copper[:9]])
    train = assign(Job(str, function_args=(flow.output,)), Role.TRAIN, "train", cores=2)
    runner = LocalRunner(store_url=begun.store, scratch=tmp_path / "scratch", cores=2)
    stopped = runner.run(records.marked(Flow([flow, train]), run), run)
    assert "of 9 labels were accepted, the floor is 90%" in stopped.failures[0].summary
    calculated = toy.read_text()

    again = launch.resume(begun.store, run)
    assert [each.summary for each in again.failures] == [stopped.failures[0].summary]

    given = write(tmp_path, strict + ", floor: 0.5}\ntrain: {cores: 3}")
    launch.take_over(begun.store, run, given)
    with closing(open_store(begun.store)) as store:
        entries = Journal(collection(store, "jobs"), run).entries()
    assert {entry.name: entry.cores for entry in entries}["train"] == 6
    ended = launch.resume(begun.store, run)
    assert set(ended.counts) == {"completed"}, ended.message
    assert toy.read_text() == calculated
