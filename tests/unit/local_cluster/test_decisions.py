"""Which way a machine is taken, for machines that this one is not: the probes' answers are given, the choices are real."""

from dataclasses import replace

import pytest
from local_cluster.decisions import (
    EngineFacts,
    NodeImageFacts,
    SourceFacts,
    ToolFacts,
    check_disk,
    choose_engine,
    choose_node_image,
    choose_source,
    choose_tool,
)
from local_cluster.errors import UserError

LAPTOP = EngineFacts(
    server_version="28.2.2", error="", docker_host=None, dockerd_version=None, root=False, debian=None
)  # fmt: skip
CLOSED_DEBIAN = EngineFacts(
    server_version=None,
    error="Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
    docker_host=None,
    dockerd_version=None,
    root=True,
    debian=12,
)


def test_an_engine_that_answers_is_used_as_it_is() -> None:
    choice = choose_engine(LAPTOP)
    assert choice.action == "use"
    assert "28.2.2" in choice.why


def test_root_on_debian_without_an_engine_installs_one() -> None:
    assert choose_engine(CLOSED_DEBIAN).action == "install"


def test_an_installed_engine_is_only_started() -> None:
    assert choose_engine(replace(CLOSED_DEBIAN, dockerd_version="26.1.5")).action == "start"


def test_an_engine_too_old_for_privileged_containers_is_replaced() -> None:
    assert choose_engine(replace(CLOSED_DEBIAN, dockerd_version="20.10.24")).action == "install"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (replace(CLOSED_DEBIAN, root=False), "systemctl start docker"),
        (replace(CLOSED_DEBIAN, debian=11), "Debian 12"),
        (replace(CLOSED_DEBIAN, debian=None, error=""), "There is no docker command"),
        (replace(CLOSED_DEBIAN, docker_host="tcp://build:2375"), "tcp://build:2375"),
        (replace(CLOSED_DEBIAN, error="permission denied while trying to connect"), "usermod -aG docker"),
    ],
)
def test_without_an_engine_the_remedy_is_named(facts: EngineFacts, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_engine(facts)


STOCK = SourceFacts(built_base_present=False, pull_error=None, root=False, debian=None)
CLOSED = SourceFacts(
    built_base_present=False, pull_error="pulling\nlookup registry: no such host\n", root=True, debian=12
)  # fmt: skip


def test_a_registry_that_answers_is_preferred_even_for_root_on_debian() -> None:
    assert choose_source(STOCK).source == "registry"
    assert choose_source(replace(STOCK, root=True, debian=12)).source == "registry"


def test_without_a_registry_root_on_debian_builds_from_packages_and_says_why() -> None:
    choice = choose_source(CLOSED)
    assert choice.source == "packages"
    assert "no such host" in choice.why


def test_a_machine_that_built_its_base_stays_on_that_way() -> None:
    assert choose_source(replace(CLOSED, built_base_present=True, pull_error="not asked")).source == "packages"


@pytest.mark.parametrize(
    "facts", [replace(CLOSED, root=False), replace(CLOSED, debian=None), replace(CLOSED, debian=11)]
)
def test_without_a_registry_nobody_else_can_go_on(facts: SourceFacts) -> None:
    with pytest.raises(UserError, match="root on Debian 12"):
        choose_source(facts)


NOTHING = NodeImageFacts(chosen=None, built_present=False, cache_file_present=False, source="packages")


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        (replace(NOTHING, chosen="mine:1", built_present=True, source="registry"), "chosen"),
        (replace(NOTHING, built_present=True, cache_file_present=True, source="registry"), "present"),
        (replace(NOTHING, cache_file_present=True, source="registry"), "load"),
        (replace(NOTHING, source="registry"), "stock"),
        (NOTHING, "build"),
    ],
)
def test_the_node_image_comes_from_the_nearest_place(facts: NodeImageFacts, action: str) -> None:
    assert choose_node_image(facts).action == action


@pytest.mark.parametrize(
    ("name", "installed", "fits"),
    [
        ("kubectl", "v1.34.4", True),
        ("kubectl", "v1.35.0", True),
        ("kubectl", "v1.32.4", False),
        ("kubectl", None, False),
        ("helm", "v3.19.0", True),
        ("helm", "v4.3", True),
        ("helm", "v3.9.1", False),
        ("kind", "v0.31.0", True),
        ("kind", "v0.32.1", True),
        ("kind", "v0.20.0", False),
    ],
)
def test_a_tool_on_path_is_used_if_its_version_fits(name: str, installed: str | None, fits: bool) -> None:
    wanted = {"kubectl": "v1.34.4", "helm": "v4.3.1", "kind": "v0.31.0"}[name]
    facts = ToolFacts(name=name, wanted=wanted, cached=False, installed=installed, source="registry")
    assert choose_tool(facts) == ("installed" if fits else "download")
    assert choose_tool(replace(facts, source="packages")) == ("installed" if fits else "build")
    assert choose_tool(replace(facts, cached=True)) == "cached"


def test_too_little_disk_names_the_folder_and_how_much_is_needed() -> None:
    with pytest.raises(UserError, match=r"/var/lib/docker has 5\.0 GB free, and this needs 24 GB"):
        check_disk(5 * 10**9, warm=False, folder="/var/lib/docker")
    check_disk(9 * 10**9, warm=True, folder="/var/lib/docker")
