"""Kernel settings that a kubelet changes on its host: saved before the first cluster, restored after the last."""

from __future__ import annotations

from local_cluster import state
from local_cluster.command import output, run
from local_cluster.report import say
from local_cluster.settings import Settings

# A node's kubelet sets these (its `--protect-kernel-defaults` is off in kind), its systemd the last two, and the kernel keeps them.
NAMES = (
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "fs.file-max",
    "fs.nr_open",
)


def save(settings: Settings, base_image: str) -> None:
    """Remember the values unless an earlier cluster of ours has. They are read where the engine runs, not here."""
    path = settings.state / "sysctls.json"
    if path.exists():
        return
    # Not every kernel has every one of them.
    script = "; ".join(f"! test -e {_file(name)} || echo {name}=$(cat {_file(name)})" for name in NAMES)
    read = output("docker", "run", "--rm", "--network=host", "--privileged", base_image, "sh", "-ec", script)
    state.write_json(path, {"image": base_image, "values": dict(line.split("=", 1) for line in read.splitlines())})


def restore(settings: Settings) -> None:
    """Put the saved values back; a no-op when nothing was saved."""
    path = settings.state / "sysctls.json"
    saved = state.read_json(path)
    if not saved:
        return
    script = "; ".join(f"echo {value} >{_file(name)}" for name, value in saved["values"].items())
    done = run(
        "docker", "run", "--rm", "--network=host", "--privileged", saved["image"], "sh", "-ec", script, check=False
    )
    if done.returncode != 0:
        say(f"kernel settings could not be restored: {done.stderr.strip()}\nBy hand, as root: {script}")
        return
    path.unlink()
    say("kernel settings: restored")


def _file(name: str) -> str:
    return f"/proc/sys/{name.replace('.', '/')}"
