"""A stored run without any program: real documents, written the way jobflow writes them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psutil
from jobflow import JobConfig, job

from ionloop.jobs.documents import stamp
from ionloop.schemas.dataset import DatasetDoc, dataset_hash
from ionloop.schemas.document import Document
from ionloop.schemas.exploration import ExplorationDoc, ExplorationPart, Stage, Unfinished
from ionloop.schemas.frames import Frames
from ionloop.schemas.iteration import Action, Decision, IterationDoc, StageProgress, TurnCounts
from ionloop.schemas.label import (
    LabelDoc,
    Labels,
    LabelStatus,
    LevelOfTheory,
    RejectReason,
)
from ionloop.schemas.potential import EnsembleDoc, ForceErrors, StoredFile, TrainingDoc
from ionloop.schemas.run import RunDoc, RunState, SummaryDoc, ValidationDoc
from ionloop.schemas.selection import (
    Histogram,
    Pick,
    SelectionDoc,
    TemperatureCounts,
    TrustWindow,
    Verdict,
    VerdictCounts,
)
from ionloop.schemas.table import Table
from ionloop.stores.connect import collection

LEVEL = LevelOfTheory(code="sevennet", settings={"model": "7net-0"})
TRUST = TrustWindow(low=0.15, high=0.6)
TYPE_MAP = ["Li", "P", "S"]
SYMBOLS = ("Li",) * 4 + ("P", "S", "S", "S")
START = datetime(2024, 5, 4, 12, 0, tzinfo=UTC)
TEMPERATURES = [300.0, 600.0]
UNFINISHED = [
    Unfinished(
        temperature=600.0, composition="Li4PS3", reason="two atoms are too near", n_trajectories=2
    )
]
SKIPPED = 10  # frames of each turn


@dataclass(frozen=True)
class Written:
    """What went into the store."""

    candidates: list[Frames]
    labels: list[LabelDoc]
    turns: list[IterationDoc]
    models: list[bytes]


@job(data="packed", config=JobConfig(resolve_references=False))
def emit(document: Document) -> Document:
    return document.model_copy(update=stamp())


class Writer:
    """Writes a run turn by turn.

    Parameters
    ----------
    store
        An open job store.
    run
        Id of the run.
    n_frames
        Frames per turn, the skipped ones included.
    n_picks
        Labels per turn; the first of each turn is rejected.
    """

    def __init__(self, store: Any, run: str, n_frames: int = 100, n_picks: int = 12) -> None:
        self.store, self.run = store, run
        self.n_frames, self.n_picks = n_frames, n_picks
        self.rng = np.random.default_rng(7)
        self.candidates: list[Frames] = []
        self.labels: list[LabelDoc] = []
        self.turns: list[IterationDoc] = []
        self.models: list[bytes] = []
        self.references: list[Any] = []
        self.order = 0

    @property
    def written(self) -> Written:
        return Written(self.candidates, self.labels, self.turns, self.models)

    def put(self, document: Document, role: str, iteration: int | None = None) -> Any:
        """Store a document as the output of a job, with its entry in the journal."""
        stored = emit(document)
        where = {} if iteration is None else {"iteration": iteration}
        stored.update_metadata({"run": self.run, "role": role, "cores": 1, **where})
        stored.run(self.store)
        self.journal(stored.uuid, role, iteration, "completed")
        return stored.output

    def journal(
        self, uuid: str, role: str, iteration: int | None, state: str, **fields: Any
    ) -> None:
        started = START + timedelta(minutes=self.order)
        times = {"started": started.isoformat()}
        if state in ("completed", "failed"):
            times["ended"] = (started + timedelta(seconds=30)).isoformat()
        entry = {"job_id": f"{uuid}-1", "run": self.run, "uuid": uuid, "index": 1, "name": role}
        entry |= {"role": role, "iteration": iteration, "state": state, "order": self.order}
        entry |= {**times, **fields}
        collection(self.store, "jobs").update([entry], key="job_id")
        self.order += 1

    def begin(self) -> None:
        document = RunDoc(
            run=self.run,
            name=self.run,
            run_file={"name": self.run},
            started=START,
            state=RunState.RUNNING,
            host="oak",
        )
        collection(self.store, "runs").update([document.model_dump(mode="json")], key="run")
        self.label(self.random_frames(20), iteration=None, n_bad=0)

    def random_frames(self, n: int) -> Frames:
        positions = self.rng.uniform(0, 7, (n, len(SYMBOLS), 3))
        return Frames(SYMBOLS, positions, np.tile(7 * np.eye(3), (n, 1, 1)))

    def label(self, frames: Frames, iteration: int | None, n_bad: int) -> Any:
        """Buy labels; the first `n_bad` are rejected as outliers."""
        documents = [self.label_document(frames[i], i < n_bad) for i in range(len(frames))]
        update = {"run": self.run, "iteration": iteration}
        self.labels += [document.model_copy(update=update) for document in documents]
        stored = [label.model_dump(mode="json") for label in self.labels[-len(documents) :]]
        collection(self.store, "labels").update(stored, key="label_id")
        labels = Labels(level=LEVEL, n_requested=len(frames), n_accepted=len(frames) - n_bad)
        self.references.append(self.put(labels, "label", iteration))
        return self.references[-1]

    def label_document(self, frame: Frames, bad: bool) -> LabelDoc:
        forces = self.rng.normal(0, 0.5, (1, len(SYMBOLS), 3))
        labelled = Frames(
            frame.symbols,
            frame.positions,
            frame.cells,
            np.array([-30.0]),
            forces,
            virials=None,
            level=LEVEL.hash,
        )
        return LabelDoc(
            frame_id=frame.ids[0],
            level=LEVEL.hash,
            level_words=LEVEL.description,
            status=LabelStatus.REJECTED if bad else LabelStatus.ACCEPTED,
            reason=RejectReason.OUTLIER if bad else None,
            detail="a force of 250 eV/Å exceeds max_force (100)" if bad else "",
            energy=None if bad else -30.0,
            species=frame.species,
            n_atoms=frame.n_atoms,
            seconds=0.2,
            frame=frame if bad else labelled,
        )

    def ensemble(self, iteration: int | None, error: float, n_models: int = 2) -> Any:
        members = []
        for seed in range(n_models):
            content = f"model {iteration} {seed}".encode()
            self.models.append(content)
            curve = Table({"step": np.arange(3), "force_rmse": np.array([0.3, 0.2, 0.1])})
            training = TrainingDoc(
                seed=seed,
                backend="tensorflow",
                type_map=TYPE_MAP,
                steps=400,
                warm_start=False,
                train_errors=errors(error),
                learning_curve=curve,
                seconds=60.0,
                model=StoredFile("model.pb", content),
                checkpoint=StoredFile("checkpoint.tar", b"heavy"),
            )
            members.append(self.put(training, "train", iteration))
        document = EnsembleDoc(
            n_asked=n_models,
            members=members,
            seeds=list(range(n_models)),
            train_errors=[errors(error), errors(error + 10)],
            validation_errors=[errors(1.2 * error)],
        )
        return self.put(document, "train", iteration)

    def turn(self, number: int, median: float, action: Action = Action.REPEAT) -> IterationDoc:
        """Write a turn whose deviations scatter around `median` (eV/Å)."""
        ensemble = self.ensemble(number, 1000 * median)
        verdicts, picked = self.explore(number, median)
        labels = self.label(picked, number, n_bad=1)
        document = self.account(number, verdicts, picked[1:], median, action)
        update = {"ensemble": ensemble, "labels": list(self.references)}
        document = document.model_copy(update=update | {"jobs": {"labels": labels.uuid}})
        self.put(document, "decide", number)
        self.turns.append(document)
        return document

    def explore(self, number: int, median: float) -> tuple[Table, Frames]:
        deviations = self.deviations(median)
        candidates = self.random_frames(int((deviations["frame"] >= 0).sum()))
        self.candidates.append(candidates)
        part = ExplorationPart(
            trajectories=[], deviations=deviations, candidates=[candidates], final_frames=[]
        )
        reference = self.put(part, "explore", number)
        stage = Stage(temperatures=TEMPERATURES, steps=100)
        self.put(
            ExplorationDoc(
                stage=stage, trust=TRUST, trajectories=[], summary=[], parts=[reference]
            ),
            "explore",
            number,
        )
        verdicts, chosen = self.pick(deviations, candidates)
        picked = candidates[chosen]
        self.put(self.selection(verdicts, picked), "select", number)
        return verdicts, picked

    def deviations(self, median: float) -> Table:
        n = self.n_frames
        f = median * np.exp(self.rng.normal(0, 0.45, n))
        verdict = np.where(
            f < TRUST.low, "accurate", np.where(f < TRUST.high, "candidate", "failed")
        )
        verdict[:SKIPPED] = "skipped"
        is_candidate = verdict == "candidate"
        return Table(
            {
                "trajectory": np.arange(n) // 50,
                "step": 10 * (np.arange(n) % 50),
                "temperature": np.where(np.arange(n) % 2, *TEMPERATURES),
                "pressure": np.ones(n),
                "max_devi_f": f,
                "max_devi_v": f / 10,
                "min_distance_ratio": np.ones(n),
                "verdict": verdict,
                "reason": np.where(verdict == "failed", "max_devi_f over the window", ""),
                "frame": np.where(is_candidate, np.cumsum(is_candidate) - 1, -1),
            }
        )

    def pick(self, deviations: Table, candidates: Frames) -> tuple[Table, list[int]]:
        frame = deviations["frame"]
        chosen = list(range(min(self.n_picks, len(candidates))))
        ids = np.array([*candidates.ids, ""])
        reason = np.where(frame >= 0, "over max_labels", deviations["reason"])
        reason = np.where(np.isin(frame, chosen), "picked: random", reason)
        return deviations.with_columns(frame_id=ids[frame], reason=reason), chosen

    def selection(self, verdicts: Table, picked: Frames) -> SelectionDoc:
        chosen = verdicts.where(np.char.startswith(verdicts["reason"], "picked"))
        fields = ("frame_id", "trajectory", "step", "temperature", "pressure", "max_devi_f")
        return SelectionDoc(
            trust=TRUST,
            seed=1,
            max_labels=self.n_picks,
            counts=counts(verdicts),
            by_temperature=[
                TemperatureCounts(temperature=t, **counts(verdicts).model_dump())
                for t in TEMPERATURES
            ],
            histogram=Histogram(edges=[0, 1.0], counts=[len(verdicts)]),
            picks=[
                Pick(**{name: row[name] for name in fields}, reason=row["reason"])
                for row in chosen.rows()
            ],
            set_aside={},
            picked=[picked],
            verdicts=verdicts,
        )

    def account(
        self, number: int, verdicts: Table, accepted: Frames, median: float, action: Action
    ) -> IterationDoc:
        good = [x.frame_id for x in self.labels if x.status is LabelStatus.ACCEPTED]
        deviation = median * np.exp(self.rng.normal(0.5, 0.3, len(accepted)))
        true_error = 1.3 * deviation * np.exp(self.rng.normal(0, 0.35, len(accepted)))
        found = [*(turn.counts for turn in self.turns), counts(verdicts)]
        history = [TurnCounts(**each.model_dump()) for each in found]
        return IterationDoc(
            run=self.run,
            iteration=number,
            stage=0,
            turn_of_stage=number,
            temperatures=TEMPERATURES,
            counts=counts(verdicts),
            accurate_fraction=counts(verdicts).accurate_fraction,
            unfinished=UNFINISHED if number == 0 else [],
            n_requested=len(accepted) + 1,
            n_accepted=len(accepted),
            rejected={"outlier": 1},
            n_training_frames=len(good),
            train_errors=[errors(1000 * median), errors(1000 * median + 10)],
            validation_errors=[errors(1200 * median)],
            new_label_errors=errors(1500 * median),
            deviation_against_error=Table(
                {
                    "frame_id": np.array(accepted.ids),
                    "max_devi_f": deviation,
                    "max_force_error": true_error,
                }
            ),
            rank_correlation=0.71,
            progress=StageProgress(
                index=number,
                turn_of_stage=number,
                accurate_fractions=[each.accurate_fraction for each in history],
                history=history,
                n_labels=len(self.labels),
                core_hours=0.5 * (number + 1) ** 2,
            ),
            dataset=DatasetDoc(
                level=LEVEL.hash,
                training=sorted(good[2:]),
                validation=sorted(good[:2]),
                sha256=dataset_hash(LEVEL.hash, good),
            ),
            decision=Decision(action=action, reason=f"accurate fraction of turn {number}"),
        )

    def end(self) -> SummaryDoc:
        """Write the production potential and the summary."""
        potential = self.ensemble(None, 90.0, n_models=1)
        last = self.turns[-1]
        document = SummaryDoc(
            converged=True,
            reason="accurate fraction 0.98 reached",
            n_turns=len(self.turns),
            n_labels=last.progress.n_labels + 5,
            n_accepted=last.n_training_frames + 5,
            accurate_fractions=[turn.accurate_fraction for turn in self.turns],
            counts=last.progress.history,
            unfinished=UNFINISHED,
            core_hours=last.progress.core_hours + 1,
            potential=potential,
            train_errors=[errors(90.0)],
            validation=ValidationDoc(
                errors=errors(110.0), temperatures=[450.0], n_requested=5, n_accepted=5
            ),
        )
        self.put(document, "decide")
        return document

    def set_runner(self, pid: int, created: float, host: str | None = None) -> None:
        """Write down a process as the runner."""
        runs = collection(self.store, "runs")
        runner = {"host": host or socket.gethostname(), "pid": pid, "process_created": created}
        runner["heartbeat"] = START.isoformat()
        runs.update({**runs.query_one({"run": self.run}), "runner": runner}, key="run")

    def set_runner_here(self) -> None:
        self.set_runner(os.getpid(), psutil.Process().create_time())


def whole_run(store: Any, run: str = "lgps", n_turns: int = 4, **sizes: int) -> Writer:
    """Write a run that converged."""
    writer = Writer(store, run, **sizes)
    writer.begin()
    for number in range(n_turns):
        is_last = number == n_turns - 1
        action = Action.CONVERGED if is_last else Action.REPEAT
        writer.turn(number, 0.5 * 0.55**number, action)
    writer.end()
    return writer


def counts(verdicts: Table) -> VerdictCounts:
    return VerdictCounts(**{v.value: int((verdicts["verdict"] == v).sum()) for v in Verdict})


def errors(force: float) -> ForceErrors:
    return ForceErrors(
        n_frames=10,
        energy_mev_per_atom=2.0,
        force_mev_per_angstrom=force,
        force_rms_mev_per_angstrom=620.0,
    )
