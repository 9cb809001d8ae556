"""The Docker engine: use the one that answers, or install, start and later stop one of our own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from local_cluster import decisions, probes, state
from local_cluster.command import output, run, run_logged
from local_cluster.errors import UserError
from local_cluster.report import say, step
from local_cluster.settings import Settings

START_S = 60.0
PACKAGES = ["docker.io/trixie", "docker-cli/trixie", "docker-buildx/trixie"]
BUILD_PACKAGES = ["debootstrap", "zstd"]
KERNEL = Path("/proc/sys")
TRIXIE_SOURCES = Path("/etc/apt/sources.list.d/trixie.sources")
# dockerd turns forwarding on, and sets the policy of FORWARD to DROP, when it starts; it undoes neither.
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding")


def ensure(settings: Settings) -> None:
    """See to it that a Docker engine answers. Raises UserError where that cannot be done from here."""
    version, error = probes.engine_version()
    choice = decisions.choose_engine(
        decisions.EngineFacts(
            server_version=version,
            error=error,
            docker_host=probes.docker_endpoint(),
            dockerd_version=probes.dockerd_version(),
            root=probes.is_root(),
            debian=probes.debian_version(),
        )
    )
    say(f"engine: {choice.why}")
    if choice.action == "install":
        with step("install Docker from Debian trixie", settings.logs / "apt.log"):
            install_packages(settings, PACKAGES)
    if choice.action != "use" and probes.engine_version()[0] is None:
        _start(settings)


def install_packages(settings: Settings, packages: list[str]) -> None:
    """Install Debian packages; trixie's only where they are asked for by `/trixie`. Raises CommandError."""
    log = settings.logs / "apt.log"
    if probes.debian_version() == 12 and not TRIXIE_SOURCES.exists():
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        TRIXIE_SOURCES.write_text(
            f"Types: deb\nURIs: {probes.debian_mirror()}\nSuites: trixie\nComponents: main\nSigned-By: {keyring}\n"
        )
        # Without the pin every later upgrade would turn the machine into a trixie.
        Path("/etc/apt/preferences.d/trixie").write_text("Package: *\nPin: release n=trixie\nPin-Priority: 100\n")
    wanted = packages if probes.debian_version() == 12 else [name.removesuffix("/trixie") for name in packages]
    run_logged("apt-get", "-o", "Acquire::Retries=5", "update", log=log)
    run_logged(
        "apt-get", "-o", "Acquire::Retries=5", "install", "-y", "--no-install-recommends", *wanted,
        log=log, env={"DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip


def install_build_packages(settings: Settings) -> None:
    """What building from packages needs on the host. Raises CommandError."""
    if any(shutil.which(name) is None for name in BUILD_PACKAGES):
        with step("install debootstrap and zstd", settings.logs / "apt.log"):
            install_packages(settings, BUILD_PACKAGES)


def data_folder() -> Path:
    """Where the engine keeps its images; it need not be visible from here (Docker Desktop)."""
    return Path(output("docker", "info", "--format", "{{.DockerRootDir}}"))


def stop(settings: Settings) -> None:
    """Stop the engine if we started it and nothing else runs on it, and undo what it did to the machine."""
    record = settings.state / "engine.json"
    started = state.read_json(record)
    if not started:
        return
    if state.is_running(started["process"]):
        if others := run("docker", "ps", "--quiet", check=False).stdout.split():
            say(f"engine: left running, {len(others)} other containers use it")
            return
        state.stop(started["process"])
        say("engine: stopped")
    if probes.engine_version()[0] is None:  # else somebody has started another one, and its network is not ours to undo
        _undo_network(started)
    record.unlink()


def _start(settings: Settings) -> None:
    record = settings.state / "engine.json"
    log = settings.logs / "dockerd.log"
    before = state.read_json(record) or {
        "forwarding": {name: _read_setting(name) for name in FORWARDING if (KERNEL / name).exists()},
        "forward_policy": _forward_policy(),
        "bridges": _bridges(),
    }
    _remove_stale_pid()
    process = state.start_detached(["dockerd", "--storage-driver", "overlay2"], log)
    state.write_json(record, {**before, "process": process})
    deadline = time.monotonic() + START_S
    with step("start Docker", log):
        while probes.engine_version()[0] is None:
            if not state.is_running(process) or time.monotonic() > deadline:
                state.stop(process)
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                raise UserError(
                    f"Docker was installed but did not start within {START_S:.0f} s. The end of {log}:\n{tail}"
                )
            time.sleep(0.5)


def _remove_stale_pid() -> None:
    # A killed dockerd leaves its pid file, and refuses to start if that number lives again as something else.
    pid_file = Path("/var/run/docker.pid")
    if pid_file.exists() and not Path(f"/proc/{pid_file.read_text().strip()}/exe").resolve().name.startswith("dockerd"):
        pid_file.unlink()


def _read_setting(name: str) -> str:
    return (KERNEL / name).read_text().strip()


def _forward_policy() -> str:
    rules = run("iptables", "-S", "FORWARD", check=False).stdout if shutil.which("iptables") else ""
    return "DROP" if "-P FORWARD DROP" in rules else "ACCEPT"


def _bridges() -> list[str]:
    return sorted(link.name for link in Path("/sys/class/net").iterdir() if (link / "bridge").is_dir())


def _undo_network(started: dict[str, Any]) -> None:
    """Take away the bridges, chains and settings that dockerd made and leaves behind."""
    for bridge in set(_bridges()) - set(started["bridges"]):
        if bridge.startswith(("docker", "br-")):
            run("ip", "link", "delete", bridge, check=False)
    for program in ("iptables", "ip6tables"):
        if shutil.which(program):
            _remove_chains(program)
            run(program, "-w", "-P", "FORWARD", started["forward_policy"], check=False)
    for name, value in started["forwarding"].items():
        try:
            (KERNEL / name).write_text(value)
        except OSError as refused:
            say(f"engine: {KERNEL / name} could not be set back to {value}: {refused}")


def _remove_chains(program: str) -> None:
    for table in ("filter", "nat", "raw"):
        rules = run(program, "-w", "-t", table, "-S", check=False).stdout.splitlines()
        for rule in rules:
            if rule.startswith("-A") and "docker" in rule.lower():  # its chains, and its bridge docker0
                run(program, "-w", "-t", table, "-D", *rule.split()[1:], check=False)
        chains = [rule.split()[1] for rule in rules if rule.startswith("-N DOCKER")]
        for chain in chains:
            run(program, "-w", "-t", table, "-F", chain, check=False)
        for chain in chains:
            run(program, "-w", "-t", table, "-X", chain, check=False)
