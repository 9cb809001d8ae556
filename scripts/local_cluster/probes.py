"""Ask the machine. Each function answers one question, quickly, and changes nothing (but `pull`, which says so)."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
from pathlib import Path

from local_cluster.command import run
from local_cluster.errors import CommandError

QUICK_S = 60.0


def is_root() -> bool:
    """Whether this process may change the machine."""
    return os.geteuid() == 0


def debian_version(os_release: Path = Path("/etc/os-release")) -> int | None:
    """Debian's major version; None on another system (derivatives included: their packages differ)."""
    if not os_release.exists():
        return None
    text = os_release.read_text()
    if not re.search(r"^ID=[\"']?debian[\"']?$", text, re.MULTILINE):
        return None
    found = re.search(r"^VERSION_ID=[\"']?(\d+)", text, re.MULTILINE)
    # Testing and unstable carry no number; they are newer than any that does.
    return int(found.group(1)) if found else 99


def engine_version() -> tuple[str | None, str]:
    """Version of the Docker engine that answers, or None and what the client said."""
    if shutil.which("docker") is None:
        return None, ""
    try:
        asked = run("docker", "version", "--format", "{{.Server.Version}}", check=False, timeout_s=QUICK_S)
    except CommandError as failed:
        return None, failed.tail
    version = asked.stdout.strip()
    return (version, "") if asked.returncode == 0 and version else (None, asked.stderr.strip())


def docker_endpoint() -> str | None:
    """Where the client looks for an engine, if that is not this machine's default socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    if shutil.which("docker") is None:
        return None
    name = run("docker", "context", "show", check=False).stdout.strip()
    return f"Docker context '{name}'" if name and name != "default" else None


def dockerd_version() -> str | None:
    """Version of an installed engine, running or not."""
    if shutil.which("dockerd") is None:
        return None
    found = re.search(r"version (\d+[\d.]*)", run("dockerd", "--version", check=False).stdout)
    return found.group(1) if found else None


def image_present(image: str) -> bool:
    """Whether the engine has an image of that name."""
    return run("docker", "image", "inspect", image, check=False).returncode == 0


def pull(image: str) -> str | None:
    """Pull an image unless it is there. None if it is there now, else what the engine said."""
    if image_present(image):
        return None
    try:
        pulled = run("docker", "pull", "--quiet", image, check=False, timeout_s=QUICK_S)
    except CommandError as failed:
        return failed.tail
    return None if pulled.returncode == 0 else pulled.stderr.strip() or "no answer"


def tool_version(name: str) -> str | None:
    """Version of kind, kubectl or helm on PATH; None if it is not there or says nothing of use."""
    if shutil.which(name) is None:
        return None
    asked = {"kind": ["version"], "kubectl": ["version", "--client"], "helm": ["version", "--template", "{{.Version}}"]}
    found = re.search(r"v(\d+\.\d+[\w.+-]*)", run(name, *asked[name], check=False).stdout)
    return f"v{found.group(1)}" if found else None


def free_bytes(folder: Path) -> int:
    """Room left on the file system of `folder`, or of the nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def port_taken(port: int) -> bool:
    """Whether something listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def release_platform() -> tuple[str, str]:
    """This machine in the words of release files: ("linux", "amd64") and the like."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return platform.system().lower(), machine


def certificate_bundle() -> Path | None:
    """The file of trusted certificates that builds inside containers need behind a network's own authority."""
    candidates = [
        os.environ.get("SSL_CERT_FILE"),
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ]
    return next((Path(name) for name in candidates if name and Path(name).is_file()), None)


def debian_mirror() -> str:
    """The mirror that this machine's apt uses. Raises CommandError where apt knows none."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CREATED_BY) $(CODENAME)").stdout
    for line in targets.splitlines():
        uri, created_by, codename = line.split()[:3]
        if created_by == "Packages" and codename in {"bookworm", "trixie", "forky", "sid"}:
            return uri
    raise CommandError("apt-get indextargets", 1, "no Debian archive among apt's sources: `apt-get update` first")
