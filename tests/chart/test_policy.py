"""What holds for every object of every way to install the chart."""

import itertools
import re
from typing import Any

import policies
import pytest
from manifests import Object, Scenario, containers, describe, environment, pod_template, pods, secret_data, strings
from scenarios import SCENARIOS

pytestmark = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())


def test_objects_are_valid_for_kubernetes(scenario: Scenario) -> None:
    """Every object has only fields that Kubernetes 1.34 knows, of the right type."""
    policies.check_valid(scenario.render())


def test_objects_are_named_once(scenario: Scenario) -> None:
    """No two objects of a kind have the same name."""
    names = [describe(o) for o in scenario.render()]
    assert sorted(names) == sorted(set(names))


def test_names_fit(scenario: Scenario) -> None:
    """Names are DNS labels, with room for what controllers append to them in host names and labels."""
    # A Job's pod is called <job>-<index> inside; a StatefulSet's pod has a label <name>-<hash of 10>.
    for obj in scenario.render():
        name: str = obj["metadata"]["name"]
        if obj["kind"] == "Job":
            name += f"-{obj['spec']['completions'] - 1}"
        if obj["kind"] == "StatefulSet":
            name += "-" + "0" * 10
        assert len(name) <= 63, describe(obj)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", obj["metadata"]["name"]), describe(obj)


def test_labels_are_complete(scenario: Scenario) -> None:
    """Every object can be found by release and component; label values are such that Kubernetes takes them."""
    for obj in scenario.render():
        labels = obj["metadata"]["labels"]
        wanted = {"name", "instance", "component", "version", "managed-by", "part-of"}
        assert {f"app.kubernetes.io/{key}" for key in wanted} | {"helm.sh/chart"} <= set(labels), describe(obj)
        for value in labels.values():
            assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value), f"{describe(obj)}: {value}"


def test_pods_run_under_restricted_pod_security(scenario: Scenario) -> None:
    """Each rule of the restricted Pod Security Standard, and a read-only root on top of it."""
    policies.check_restricted(scenario.render())


def test_pods_hold_no_api_token(scenario: Scenario) -> None:
    """No pod may talk to the Kubernetes API, and none gets variables named after Services."""
    assert not scenario.kind("ServiceAccount")
    policies.check_no_api_token(scenario.render())


def test_containers_have_resources(scenario: Scenario) -> None:
    """The scheduler knows what each container needs, and none can take a node's memory."""
    policies.check_resources(scenario.render())


def test_scratch_space_is_limited(scenario: Scenario) -> None:
    """No pod can fill its node's disk or memory, and every container may write to /tmp."""
    policies.check_scratch_space(scenario.render())


def test_images_are_named_exactly(scenario: Scenario) -> None:
    """Every image has a tag other than latest, and says when it is pulled."""
    for where, container in containers(scenario.render()):
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        assert tag not in {"", "latest"}, f"{where}: {container['image']}"
        assert container["imagePullPolicy"] == "IfNotPresent", where


def test_secrets_stay_in_secrets(scenario: Scenario) -> None:
    """No password, key or database URL is in any other object: not in ConfigMaps, arguments, variables or annotations."""
    secret_values = {value for secret in scenario.kind("Secret") for value in secret_data(secret).values()}
    for obj in scenario.render():
        if obj["kind"] != "Secret":
            for text in strings(obj):
                assert not any(value in text for value in secret_values), describe(obj)


def test_plain_variables_look_harmless(scenario: Scenario) -> None:
    """Variables whose names promise a secret take it from a Secret."""
    for where, container in containers(scenario.render()):
        for name, value in environment(container).items():
            assert not re.search(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY|BACKEND_STORE_URI", name), f"{where}: {name}"
            assert not re.search(r"://[^/]*:[^/]*@", value), f"{where}: {name} holds a URL with a password"


def test_secrets_that_pods_read_exist_or_are_yours(scenario: Scenario) -> None:
    """Every Secret, ConfigMap and claim that a pod names is made by the chart or named in the values."""
    yours = {"team-database", "team-bucket", "own-passwords", "own-keys", "team-optuna", "wandb"}
    for where, pod in pods(scenario.render()):
        for kind, name in references(pod["spec"]):
            assert name in scenario.names(kind) or name in yours, f"{where}: {kind} {name}"


def references(spec: Object) -> set[tuple[str, str]]:
    """Kind and name of all that a pod's containers and volumes refer to."""
    found: set[tuple[str, str]] = set()
    for volume in spec.get("volumes", []):
        found |= {("Secret", volume["secret"]["secretName"])} if "secret" in volume else set()
        found |= {("ConfigMap", volume["configMap"]["name"])} if "configMap" in volume else set()
        claim = volume.get("persistentVolumeClaim")
        found |= {("PersistentVolumeClaim", claim["claimName"])} if claim else set()
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for source in container.get("envFrom", []):
            found |= {("Secret", source["secretRef"]["name"])} if "secretRef" in source else set()
            found |= {("ConfigMap", source["configMapRef"]["name"])} if "configMapRef" in source else set()
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            found |= {("Secret", key["name"])} if key else set()
    return found


def test_selectors_are_disjoint(scenario: Scenario) -> None:
    """A pod belongs to one workload, and a Service reaches the pods of one workload."""
    owners = [o for o in scenario.render() if o["kind"] in {"Deployment", "StatefulSet"}]
    templates = [t for o in scenario.render() if (t := pod_template(o))]
    for one, other in itertools.permutations(owners, 2):
        assert not selects(one["spec"]["selector"]["matchLabels"], pod_template(other)), (
            f"{describe(one)} {describe(other)}"
        )
    for owner in owners:
        matched = [t for t in templates if selects(owner["spec"]["selector"]["matchLabels"], t)]
        assert matched == [pod_template(owner)], describe(owner)
    for service in scenario.kind("Service"):
        assert len([t for t in templates if selects(service["spec"]["selector"], t)]) == 1, describe(service)


def test_selectors_do_not_change_with_versions(scenario: Scenario) -> None:
    """Selectors are immutable: a version in one would make the next upgrade fail."""
    for obj in scenario.render():
        selector = (obj.get("spec") or {}).get("selector")
        if selector and obj["kind"] in {"Deployment", "StatefulSet", "Service"}:
            labels = selector.get("matchLabels", selector)
            assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(labels), describe(obj)
            assert "app.kubernetes.io/component" in labels, describe(obj)


def selects(selector: dict[str, str], template: Object | None) -> bool:
    """Whether a label selector matches a pod template."""
    labels: dict[str, Any] = template["metadata"].get("labels", {}) if template else {}
    return all(labels.get(key) == value for key, value in selector.items())


def test_services_reach_a_port(scenario: Scenario) -> None:
    """A Service's target port has a name that a container of the selected pods gives to a port."""
    templates = [t for o in scenario.render() if (t := pod_template(o))]
    for service in scenario.kind("Service"):
        pod = next(t for t in templates if selects(service["spec"]["selector"], t))
        known = {port["name"] for c in pod["spec"]["containers"] for port in c.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"].get("ports", [])} <= known, describe(service)


def test_volumes_outlive_the_release(scenario: Scenario) -> None:
    """Helm keeps every volume with data on uninstall, and says so."""
    for claim in scenario.kind("PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}, describe(claim)
    for stateful in scenario.kind("StatefulSet"):
        assert "volumeClaimTemplates" not in stateful["spec"], describe(stateful)
