"""What is said of a run in tags."""

import getpass
import shlex

from trainyard.environment import JobEnvironment
from trainyard.provenance.command import command
from trainyard.provenance.git import GitState
from trainyard.provenance.image import image_digest


def tags(environment: JobEnvironment, git: GitState, **known: str) -> dict[str, str]:
    """Contract 3.5 of the design, the `trainyard.*` tags whose value is known; and what MLflow's UI shows as source and as tree.

    `known`: further tags without their prefix, such as config_hash.
    """
    found = {
        "trainyard.job_uid": environment.job_uid,
        "trainyard.job_name": environment.job_name,
        "trainyard.pod_name": environment.pod_name,
        "trainyard.node_name": environment.node_name,
        "trainyard.sweep_id": environment.sweep_id,
        "trainyard.trial": environment.trial,
        "trainyard.image": environment.image,
        "trainyard.image_digest": image_digest(environment),
        "trainyard.git_commit": git.commit,
        "trainyard.git_branch": git.branch,
        "trainyard.git_dirty": git.dirty,
        **{f"trainyard.{name}": value for name, value in known.items()},
        "mlflow.parentRunId": environment.parent_run_id,
        "mlflow.user": _user(),
        "mlflow.source.name": shlex.join(command()),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.commit,
    }
    return {name: value for name, value in found.items() if value is not None}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an arbitrary user id in a container
        return None
