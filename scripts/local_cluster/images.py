"""Our images: built when what they are made of has changed, named by it, and put into clusters."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from local_cluster import decisions, engine, probes, state
from local_cluster.command import output, pipe, run, run_logged
from local_cluster.errors import UserError
from local_cluster.report import say, step, table
from local_cluster.settings import REPOSITORY, Settings, read_versions
from local_cluster.tools import content_key

CHART_VERSION_TAG = "0.1.0"
MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of the platform."""

    name: str
    target: str | None = None
    """Stage of the Dockerfile; None for its last."""
    folder: str = ""
    """Folder under images/; the name if empty."""
    sources: tuple[str, ...] = ()
    """Folders of the repository that go into it, beside its own."""
    built_on: Image | None = None
    """The image of ours that it starts from; None for the base."""
    size_goal_mb: int | None = None
    """Largest size it should have; None where nobody downloads it."""

    @property
    def path(self) -> str:
        """Its folder, relative to the repository."""
        return f"images/{self.folder or self.name}"


IMAGES = (
    Image(name="postgres", size_goal_mb=300),
    Image(name="objectstore", size_goal_mb=250),
    Image(name="mlflow", size_goal_mb=700),
    Image(name="trainer", target="cpu", sources=("trainer",), size_goal_mb=1800),
)
"""What a release runs."""
RAY = Image(name="ray", built_on=IMAGES[-1], size_goal_mb=2100)
"""For Ray Tune; no part of a release."""
TRAINER_TEST = Image(name="trainer-test", target="test", folder="trainer", sources=("trainer",))


def reference(image: Image, base: str) -> str:
    """Name and tag of an image: the tag is a hash of all that it is made of, what it starts from included."""
    key = content_key(REPOSITORY, image.path, *image.sources)
    return f"trainyard/{image.name}:{_combine(key, _starts_from(image, base), image.target or '')}"


def ensure_base(settings: Settings) -> tuple[str, decisions.Source]:
    """The image that all others start from, and which way this machine takes.

    Raises UserError where neither a registry nor the package mirrors can give one.
    """
    built = f"trainyard/base:{content_key(REPOSITORY / 'images/base')}"
    present = probes.image_present(built)
    stock = read_versions()["STOCK_BASE_IMAGE"]
    choice = decisions.choose_source(
        decisions.SourceFacts(
            built_base_present=present,
            pull_error="not asked" if present else probes.pull(stock),
            root=probes.is_root(),
            debian=probes.debian_version(),
        )
    )
    say(f"images: {choice.why}")
    if choice.source == "registry":
        return stock, choice.source
    if not present:
        engine.install_build_packages(settings)
        rootfs = [str(REPOSITORY / "images/base/rootfs.sh"), probes.debian_mirror()]
        log = settings.logs / "base-image.log"
        with step("build the base image from Debian packages", log):
            pipe(rootfs, ["docker", "import", "--change", 'CMD ["bash"]', "-", built], log)
    return built, choice.source


def build(settings: Settings, images: tuple[Image, ...], base: str) -> dict[str, str]:
    """Build the images that are not there yet; name -> reference of each. Raises CommandError."""
    references = {}
    for image in images:
        if image.built_on:
            build(settings, (image.built_on,), base)
        references[image.name] = reference(image, base)
        log = settings.logs / f"image-{image.name}.log"
        with state.exclusive(settings.state / f"build-{image.name}.lock", "an image build", wait=True):
            if probes.image_present(references[image.name]):
                continue
            with step(f"build the image {image.name}", log):
                run_logged(
                    *_build_command(image, references[image.name], _starts_from(image, base)), log=log, cwd=REPOSITORY
                )
        _drop_old(image, references[image.name])
    return references


def choose(names: list[str]) -> tuple[Image, ...]:
    """The images of those names; those of a release if there are none. Raises UserError for an unknown one."""
    known = {image.name: image for image in (*IMAGES, RAY)}
    for name in names:
        if name not in known:
            raise UserError(f"There is no image '{name}'. The images are: {', '.join(known)}.")
    return tuple(known[name] for name in names) or IMAGES


def size_table(references: dict[str, str]) -> str:
    """Sizes on the engine beside the goals."""
    goals = {image.name: image.size_goal_mb for image in (*IMAGES, RAY)}
    rows: list[tuple[str, ...]] = [("image", "size", "goal")]
    for name, tagged in references.items():
        size = int(output("docker", "image", "inspect", "--format", "{{.Size}}", tagged)) // MEGABYTE
        goal = goals.get(name)
        rows.append((tagged, f"{size} MB", f"<= {goal} MB" if goal else "-"))
    return table(rows)


def load(settings: Settings, references: dict[str, str], nodes: list[str]) -> None:
    """Put images into the nodes of a cluster, those apart that are there. Raises CommandError."""
    for node in nodes:
        present = output("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q").split()
        missing = [tagged for tagged in references.values() if f"docker.io/{tagged}" not in present]
        if missing:
            # Straight from the engine into containerd: `kind load` would write the archive to disk in between.
            with step(f"load {', '.join(missing)} into {node}"):
                receive = [
                    "docker",
                    "exec",
                    "-i",
                    node,
                    "ctr",
                    "-n",
                    "k8s.io",
                    "images",
                    "import",
                    "--all-platforms",
                    "-",
                ]
                pipe(["docker", "save", *missing], receive, settings.logs / f"load-{node}.log")
        for tagged in references.values():
            # The manifests under k8s/ name the chart's version, so that they need no editing.
            plain = f"docker.io/{tagged.split(':')[0]}:{CHART_VERSION_TAG}"
            run("docker", "exec", node, "ctr", "-n", "k8s.io", "images", "tag", "--force", f"docker.io/{tagged}", plain)


def _starts_from(image: Image, base: str) -> str:
    return reference(image.built_on, base) if image.built_on else base


def _build_command(image: Image, tagged: str, starts_from: str) -> list[str]:
    command = ["docker", "build", "--progress=plain", "--file", f"{image.path}/Dockerfile", "--tag", tagged]
    command += ["--build-arg", f"BASE={starts_from}"]
    if image.target:
        command += ["--target", image.target]
    if bundle := probes.certificate_bundle():
        command += ["--secret", f"id=ca,src={bundle}"]
    return [*command, "."]


def _drop_old(image: Image, current: str) -> None:
    """Remove earlier builds: nodes have their own copy, and disk is short."""
    names = output("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"trainyard/{image.name}").split()
    old = [name for name in names if name != current and re.search(r":[0-9a-f]{12}$", name)]
    if old:
        run("docker", "image", "rm", *old, check=False)


def _combine(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
