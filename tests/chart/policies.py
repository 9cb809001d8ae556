"""What holds for every object that we ship, whether the chart makes it or a person applies it."""

import kubernetes_validate
import pytest
from manifests import Object, containers, describe, pods

# Volume types that the restricted Pod Security Standard allows and the chart has a use for.
ALLOWED_VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}


def check_valid(objects: list[Object]) -> None:
    """Every object has only fields that Kubernetes 1.34 knows, of the right type."""
    for obj in objects:
        try:
            kubernetes_validate.validate(obj, "1.34", strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{describe(obj)}: {error.message} at {'.'.join(str(part) for part in error.path)}")


def check_restricted(objects: list[Object]) -> None:
    """Each rule of the restricted Pod Security Standard, and a read-only root on top of it."""
    for where, pod in pods(objects):
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert "runAsUser" not in spec["securityContext"], f"{where}: any user id must do"
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= ALLOWED_VOLUMES, f"{where}: {volume}"
    for where, container in containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, where
        assert not any("hostPort" in port for port in container.get("ports", [])), where


def check_no_api_token(objects: list[Object]) -> None:
    """No pod may talk to the Kubernetes API, and none gets variables named after Services."""
    for where, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False, where
        assert pod["spec"]["enableServiceLinks"] is False, where
        assert "serviceAccountName" not in pod["spec"], where


def check_resources(objects: list[Object]) -> None:
    """The scheduler knows what each container needs, and none can take a node's memory."""
    for where, container in containers(objects):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where
        assert "memory" in container["resources"]["limits"], where


def check_scratch_space(objects: list[Object]) -> None:
    """No pod can fill its node's disk or memory, and every container may write to /tmp."""
    for where, pod in pods(objects):
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{where}: {volume['name']}"
    for where, container in containers(objects):
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, where
