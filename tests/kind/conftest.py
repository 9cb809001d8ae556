"""One cluster and one release, shared by the tests of this folder; a failure shows the pods, events and logs that explain it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from local_cluster import diagnose
from local_cluster.settings import NAMESPACE

from tests.kind.platform import Platform, connect

PLATFORM = pytest.StashKey[Platform]()
# The installation is looked at before anything is done to it, and taken away last.
ORDER = (
    "test_install",
    "test_training",
    "test_lossless",
    "test_resume",
    "test_sweeps",
    "test_faults",
    "test_external",
    "test_upgrade",
    "test_up",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(item.path.stem))


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Platform:
    """The test cluster, with nothing installed yet."""
    platform = connect()
    pytestconfig.stash[PLATFORM] = platform
    return platform


@pytest.fixture(scope="session")
def platform(cluster: Platform) -> Iterator[Platform]:
    """The release `trainyard` in its namespace, installed with the small profile."""
    with cluster:
        cluster.install()
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    platform = item.config.stash.get(PLATFORM, None)
    if report.failed and platform is not None:
        report.sections.append(("The cluster", diagnose.explain(platform.settings, platform.tools, NAMESPACE)))
        report.sections.append(("Repeat", f"scripts/test kind -- -k {item.name.split('[')[0]}"))
    return report
