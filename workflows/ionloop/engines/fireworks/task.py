"""The FireWorks task that runs one job.

jobflow's own task refuses a flow that refers to a job outside of it. The flows that a job asks for
do so: they refer to jobs that are completed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fireworks import FWAction, explicit_serialize
from jobflow.managers.fireworks import JobFiretask, flow_to_workflow

if TYPE_CHECKING:
    from fireworks import Workflow
    from jobflow.core.job import Response
    from jobflow.core.store import JobStore


_OPEN: dict[str, JobStore] = {}
"""Stores that this process has connected, by their URL."""


@explicit_serialize
class LoopTask(JobFiretask):
    """Runs one job of a flow and hands over what it leads to.

    Other Parameters
    ----------------
    job
        The job.
    store
        The store of its run.
    """

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Run the job.

        Parameters
        ----------
        fw_spec
            Not needed: the job has its metadata itself.

        Returns
        -------
        FWAction
            The flows that the job leads to, and what it stops.
        """
        from jobflow import initialize_logger

        job, store = self["job"], _connected(self["store"])
        initialize_logger()
        job.metadata["fw_id"] = self.fw_id
        return _action(job.run(store=store), store)


def workflow_of(flow: Any, store: JobStore, **settings: Any) -> Workflow:
    """Return a flow as a workflow.

    Parameters
    ----------
    flow
        A flow or a job; it may refer to jobs that have been done.
    store
        Store of the run.
    **settings
        Of the workflow, such as its name.
    """
    workflow = flow_to_workflow(flow, store, allow_external_references=True, **settings)
    for firework in workflow.fws:
        firework.tasks = [LoopTask(task) for task in firework.tasks]
    return workflow


def _connected(store: JobStore) -> JobStore:
    """Return a connected store: one per process, which may run a thousand jobs."""
    url = getattr(store, "url", None)
    if url is None:
        store.connect()
        return store
    if url not in _OPEN:
        store.connect()
        _OPEN[url] = store
    return _OPEN[url]


def _action(response: Response[Any], store: JobStore) -> FWAction:
    before_children = [response.replace, response.detour]
    return FWAction(
        stored_data=response.stored_data,
        detours=[workflow_of(flow, store) for flow in before_children if flow is not None],
        additions=[workflow_of(response.addition, store)] if response.addition else [],
        defuse_workflow=response.stop_jobflow,
        defuse_children=response.stop_children,
    )
