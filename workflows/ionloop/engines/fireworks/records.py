"""The jobs of a run on the LaunchPad, read with few small queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ionloop.engines.base import descendants, last_sentence
from ionloop.schemas.job import JobRow, JobState

STATES = {
    "WAITING": JobState.WAITING,
    "READY": JobState.WAITING,
    "RESERVED": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "FIZZLED": JobState.FAILED,
    "PAUSED": JobState.PAUSED,
    "DEFUSED": JobState.CANCELLED,
    "ARCHIVED": JobState.CANCELLED,
}

UNBEGUN = ("WAITING", "READY", "RESERVED")

IDLE = ("WAITING", "READY", "PAUSED")

LIVE = ("RESERVED", "RUNNING")

LOST = "its worker ended without a result or an error"


_FIREWORK = (
    "fw_id name state created_on updated_on launches archived_launches spec.role spec.iteration "
    "spec._fworker spec._exception_details spec.forgiven spec._tasks.job.uuid spec._tasks.job.index"
)

# A launch also holds what it leads to, with whole jobs in it.
_LAUNCH = (
    "launch_id state fworker.name launch_dir time_start time_end state_history.reservation_id "
    "action.stored_data._exception._stacktrace"
)


@dataclass(frozen=True)
class RunRecords:
    """The fireworks of a run.

    Attributes
    ----------
    links
        Id of a firework → ids of those that wait for it.
    noted
        Id of a firework → its state as its workflow notes it.
    fireworks
        Id → document, in the order in which they came.
    launches
        Id of a firework → its present launch.
    """

    links: dict[int, list[int]]
    noted: dict[int, str]
    fireworks: dict[int, dict[str, Any]]
    launches: dict[int, dict[str, Any]]

    @classmethod
    def read(cls, pad: Any, run: str) -> RunRecords:
        """Read all jobs of a run; none if the LaunchPad does not have it.

        Parameters
        ----------
        pad
            A LaunchPad.
        run
            Id of the run.
        """
        workflows = list(pad.workflows.find({"metadata.run": run}, _only("links fw_states")))
        links = {int(k): v for each in workflows for k, v in each["links"].items()}
        found = pad.fireworks.find({"fw_id": {"$in": list(links)}}, _only(_FIREWORK))
        ordered = sorted(found, key=lambda firework: str(firework["created_on"]))
        last = [firework["launches"][-1] for firework in ordered if firework["launches"]]
        launches = pad.launches.find({"launch_id": {"$in": last}}, _only(f"fw_id {_LAUNCH}"))
        return cls(
            links=links,
            noted={int(k): v for each in workflows for k, v in each["fw_states"].items()},
            fireworks={firework["fw_id"]: firework for firework in ordered},
            launches={launch["fw_id"]: launch for launch in launches},
        )

    def rows(self) -> list[JobRow]:
        """Return the state of every job."""
        return list(map(self._row, self.fireworks))

    def _row(self, fw_id: int) -> JobRow:
        firework, launch = self.fireworks[fw_id], self.launches.get(fw_id, {})
        spec = firework["spec"]
        job = spec["_tasks"][0]["job"]
        return JobRow(
            job_id=str(fw_id),
            uuid=job["uuid"],
            index=job["index"],
            name=firework["name"],
            role=spec.get("role") or "",
            iteration=spec.get("iteration"),
            state=JobState.RUNNING if self.half_entered(fw_id) else STATES[firework["state"]],
            worker=launch.get("fworker", {}).get("name") or spec.get("_fworker"),
            queue_id=queue_id(launch),
            tries=tries(firework),
            error=_error(firework, launch) if firework["state"] == "FIZZLED" else None,
            started=launch.get("time_start"),
            ended=launch.get("time_end"),
            folder=launch.get("launch_dir"),
        )

    def half_entered(self, fw_id: int) -> bool:
        """Tell whether a job is completed and what it leads to is not all there yet.

        FireWorks does the one before the other: a run that grows would look like an ended one.
        """
        completed = self.fireworks[fw_id]["state"] == "COMPLETED"
        return completed and self.noted.get(fw_id) != "COMPLETED"

    def of_state(self, *states: str) -> list[int]:
        """Return the ids of the jobs in some of FireWorks' states."""
        return [i for i, firework in self.fireworks.items() if firework["state"] in states]

    def queue_ids(self, fw_ids: Iterable[int]) -> list[str]:
        """Return the numbers of jobs in the queue."""
        numbers = [queue_id(self.launches.get(fw_id, {})) for fw_id in fw_ids]
        return [number for number in numbers if number is not None]

    def after(self, fw_id: int) -> set[int]:
        """Return all jobs that wait for a job, directly or not."""
        return descendants(fw_id, self.links)

    def has_gone_on_without(self, fw_id: int) -> bool:
        """Tell whether a job that depends on this one runs or has run."""
        states = {self.fireworks[after]["state"] for after in self.after(fw_id)}
        return bool(states & {"COMPLETED", "RUNNING"})


def queue_id(launch: dict[str, Any]) -> str | None:
    """Return the number of the queue's job that a launch was reserved for."""
    history = launch.get("state_history", [])
    return next((entry["reservation_id"] for entry in history if "reservation_id" in entry), None)


def tries(firework: dict[str, Any]) -> int:
    """Return how often a firework was launched."""
    return len(firework["launches"]) + len(firework.get("archived_launches", []))


def _error(firework: dict[str, Any], launch: dict[str, Any]) -> str:
    unread = firework["spec"].get("_exception_details")
    if not launch and unread:
        return last_sentence(unread.get("_stacktrace", ""))
    exception = launch.get("action", {}).get("stored_data", {}).get("_exception", {})
    return last_sentence(exception["_stacktrace"]) if exception else LOST


def _only(fields: str) -> dict[str, int]:
    return {"_id": 0} | dict.fromkeys(fields.split(), 1)
