"""Runs on jobflow-remote: submit them to a project of the user, and follow and change them there.

The runner of jobflow-remote carries every job to its worker as files, so compute nodes need no
database. Bookkeeping jobs run beside the runner, on a worker that reaches the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ionloop.engines.base import EngineError, concerned, prepare
from ionloop.engines.remote import records
from ionloop.engines.remote.changes import LOCK_WAIT, change_state, place_all, repeat, retry
from ionloop.engines.remote.project import faults, native_placement
from ionloop.jobs.placement import Placement
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.job import JobRow

if TYPE_CHECKING:
    from jobflow import Flow
    from jobflow_remote.config.base import Project
    from jobflow_remote.jobs.jobcontroller import JobController


LOST = (
    "was not present in the download folder",  # killed before it began
    "likely killed before",
    "The batch process that was running the job",
)
"""What jobflow-remote says of a job whose worker was lost."""


@dataclass(frozen=True)
class RemoteEngine:
    """A project of jobflow-remote, and the runs of one store on it.

    Attributes
    ----------
    store_url
        URL of the store of the runs, ``mongodb://host/database``.
    project
        Name of the project; by default jobflow-remote's own choice (``JFREMOTE_PROJECT``, or the
        only one there is).
    max_tries
        How often a job is started whose worker is lost each time.
    """

    store_url: str
    project: str | None = None
    max_tries: int = 5

    def check(self, placement: Placement) -> list[str]:
        """Return the problems that prevent running with this placement, a sentence each.

        Parameters
        ----------
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        MissingExtraError
            If jobflow-remote is not installed.
        """
        try:
            with self._controller() as (controller, project):
                return faults(controller, project, placement, self.store_url)
        except EngineError as error:
            return [str(error)]

    def submit(self, flow: Flow, run: str, placement: Placement) -> None:
        """Hand a flow over and return at once.

        Parameters
        ----------
        flow
            The flow.
        run
            Id of the run.
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        EngineError
            If the project does not suit, or has the run already.
        """
        native = self._native(placement)
        prepare(flow, run, self.store_url, native)
        with self._controller() as (controller, _):
            controller.create_indexes(["job.metadata.run"])
            if controller.count_jobs({"job.metadata.run": run}):
                raise EngineError(
                    f"run {run!r} is in the project of jobflow-remote already; choose another name"
                )
            # What submit_flow does, which leaves its connections open.
            controller.add_flow(flow, **native["default"])

    def jobs(self, run: str) -> list[JobRow]:
        """Return a row for every job of a run, in the order in which they came to be."""
        with self._controller() as (controller, _):
            return records.job_rows(records.documents_of_run(controller, run))

    def retry(self, run: str, role: str | None = None, error: str | None = None) -> int:
        """Put failed jobs back, with what has failed because of them; return how many.

        A failed job that the run went on without stays as it is. The folders of the jobs are
        kept: a training resumes from its checkpoint, and finished labels are not lost.

        Parameters
        ----------
        run
            Id of the run.
        role
            Only jobs of this role.
        error
            Only jobs whose error contains this text.
        """
        return self._retry_rows(run, concerned(self.jobs(run), role, error))

    def recover(self, run: str) -> int:
        """Try jobs again whose worker was lost, up to `max_tries` starts; return how many."""
        rows = [row for row in self.jobs(run) if row.tries < self.max_tries]
        lost = [row for row in rows if any(text in (row.error or "") for text in LOST)]
        return self._retry_rows(run, concerned(lost, None, None))

    def _retry_rows(self, run: str, rows: Iterable[JobRow]) -> int:
        asked = {row.job_id for row in rows}
        with self._controller() as (controller, project):
            documents = records.documents_of_run(controller, run)
            wanted = [each for each in documents if each["db_id"] in asked]
            attempts = project.runner.max_step_attempts
            return sum(
                retry(controller, each, attempts)
                for each in records.retried_first(documents, wanted)
            )

    def pause(self, run: str) -> int:
        """Hold jobs that have not begun; return how many.

        Raises
        ------
        EngineError
            If a job that may ask for more does not end.
        """
        with self._controller() as (controller, _):
            return repeat(
                controller, run, lambda: change_state(controller, run, records.WAITING, "PAUSED")
            )

    def proceed(self, run: str) -> int:
        """Release what was paused or cancelled; return how many jobs."""
        with self._controller() as (controller, _):
            return change_state(controller, run, records.HELD, "WAITING")

    def cancel(self, run: str) -> int:
        """End the jobs that run or wait; return how many.

        A job in a batch cannot be taken out: it runs to its end, and its result is dropped.
        """
        with self._controller() as (controller, _):
            flows = records.flows_of_run(controller, run)
            count = 0
            # A job that is completed at this moment may ask for more.
            while records.ids_in_states(controller, run, records.WAITING + records.ACTIVE):
                count += sum(controller.stop_jobflow(flow_uuid=flow) for flow in flows)
                for db_id in records.ids_in_states(controller, run, records.ACTIVE):
                    with contextlib.suppress(ValueError):  # its state has changed meanwhile
                        controller.stop_job(db_id=db_id, wait=LOCK_WAIT)
                        count += 1
            for flow in flows:
                controller.update_flow_state(flow_uuid=flow)
            return count

    def place(self, run: str, placement: Placement) -> int:
        """Give jobs that have not begun, and all that follow, other resources; return how many.

        Parameters
        ----------
        run
            Id of the run.
        placement
            Worker, resources and execution configuration by role.

        Raises
        ------
        EngineError
            If the project does not suit, or a job that may ask for more does not end.
        """
        native = self._native(placement)
        with self._controller() as (controller, _):
            return repeat(controller, run, lambda: place_all(controller, run, native))

    def unlock(self, run: str, older_than: timedelta = timedelta(minutes=10)) -> int:
        """Remove the locks that a killed runner left on a run; return how many.

        Parameters
        ----------
        run
            Id of the run.
        older_than
            Younger locks stay: a runner may be at work.
        """
        old = {"lock_id": {"$ne": None}, "lock_time": {"$lt": datetime.now(UTC) - older_than}}
        with self._controller() as (controller, _):
            jobs = [each["db_id"] for each in records.find_jobs(controller, run, old)]
            among = {"uuid": {"$in": list(records.flows_of_run(controller, run))}}
            flows = [each["uuid"] for each in controller.flows.find(among | old, ["uuid"])]
            count = controller.unlock_jobs(db_ids=jobs) if jobs else 0
            return count + (controller.unlock_flows(flow_ids=flows) if flows else 0)

    @contextlib.contextmanager
    def _controller(self) -> Iterator[tuple[JobController, Project]]:
        project = self._project()
        with contextlib.closing(project.get_job_controller()) as controller:  # type: ignore[no-untyped-call]
            yield controller, project

    def _project(self) -> Project:
        try:
            from jobflow_remote.config import ConfigManager
            from jobflow_remote.config.base import ConfigError
        except ImportError as error:
            raise MissingExtraError("jobflow_remote", "remote", "jobflow-remote") from error
        manager = ConfigManager()
        try:
            return manager.get_project(self.project)
        except ConfigError as error:
            known = ", ".join(sorted(manager.projects)) or "none"
            raise EngineError(
                f"jobflow-remote: {error} (readable projects in {manager.projects_folder}: "
                f"{known}); look what is wrong with: jf project list --warn"
            ) from error

    def _native(self, placement: Placement) -> Placement:
        with self._controller() as (controller, project):
            if found := faults(controller, project, placement, self.store_url):
                raise EngineError("\n".join(found))
            return native_placement(project, placement)
