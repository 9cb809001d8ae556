"""GraphQL of artifacts, such as models: one function an operation, found by name in `ARTIFACT_OPERATIONS`."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from .store import ENTITY, Artifact, Store

Variables = dict[str, Any]
Answer = dict[str, Any]


def create_artifact(store: Store, variables: Variables) -> Answer:
    """A new version, or the one with the same content."""
    asked = variables["input"]
    collection = [
        artifact
        for artifact in store.artifacts.values()
        if (artifact.project, artifact.collection) == (asked["projectName"], asked["artifactCollectionName"])
    ]
    aliases = [alias["alias"] for alias in asked.get("aliases") or []]
    for artifact in collection:
        if artifact.digest == asked["digest"]:
            return {"createArtifact": {"artifact": _created(artifact)}}
    for artifact in collection:
        artifact.aliases = [alias for alias in artifact.aliases if alias not in aliases]
    artifact = Artifact(
        id=f"artifact-{len(store.artifacts)}",
        run=asked.get("runName") or "",
        project=asked["projectName"],
        collection=asked["artifactCollectionName"],
        type=asked["artifactTypeName"],
        digest=asked["digest"],
        client_id=asked.get("clientID") or "",
        version=len(collection),
        aliases=aliases,
    )
    store.artifacts[artifact.id] = artifact
    return {"createArtifact": {"artifact": _created(artifact)}}


def create_artifact_manifest(store: Store, variables: Variables) -> Answer:
    """Where to PUT the list of an artifact's files."""
    return {"createArtifactManifest": {"artifactManifest": _manifest(store, variables["artifactID"])}}


def update_artifact_manifest(store: Store, variables: Variables) -> Answer:
    """The same for a list that is now complete."""
    artifact_id = variables["artifactManifestID"].removeprefix("manifest-")
    return {"updateArtifactManifest": {"artifactManifest": _manifest(store, artifact_id)}}


def create_artifact_files(store: Store, variables: Variables) -> Answer:
    """Where to PUT each file of an artifact."""
    edges = []
    for file in variables["input"]["artifactFiles"]:
        url = f"{store.public_url}/upload/artifact/{file['artifactID']}/{quote(file['name'])}"
        node = {
            "storagePath": file["name"],
            "uploadUrl": url,
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
            "artifact": {"id": file["artifactID"]},
        }
        edges.append({"node": node})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit_artifact(store: Store, variables: Variables) -> Answer:
    """All files are there."""
    artifact = store.artifacts[variables["artifactID"]]
    artifact.state = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


def artifact_by_id(store: Store, variables: Variables) -> Answer:
    """A version as it was stored; what the client waits for after logging one."""
    artifact = store.artifacts[variables["id"]]
    project = {
        "id": f"project-{artifact.project}",
        "internalId": f"project-{artifact.project}",
        "name": artifact.project,
        "entity": {"id": f"entity-{ENTITY}", "name": ENTITY},
    }
    sequence = {"id": f"sequence-{artifact.collection}", "name": artifact.collection, "project": project}
    aliases = [{"id": f"alias-{alias}", "alias": alias, "artifactCollection": None} for alias in artifact.aliases]
    fields = {
        "id": artifact.id,
        "artifactSequence": sequence,
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "description": None,
        "metadata": "{}",
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": artifact.state,
        "size": sum(file.size for file in artifact.files.values()),
        "digest": artifact.digest,
        "commitHash": "",
        "fileCount": len(artifact.files),
        "createdAt": "2026-01-01T00:00:00",
        "updatedAt": None,
        "aliases": aliases,
    }
    return {"artifact": fields}


def artifact_type(_store: Store, _variables: Variables) -> Answer:
    """No collection insists on a type."""
    return {"project": {"artifact": None}}


def digest_algorithm(_store: Store, _variables: Variables) -> Answer:
    """No collection has chosen one."""
    return {"project": {"artifactType": {"artifactCollection": None}}}


def xxhash_digests(_store: Store, _variables: Variables) -> Answer:
    """MD5, as ever."""
    return {"entity": {"xxhashDigestsEnabled": False}}


def _created(artifact: Artifact) -> dict[str, Any]:
    return {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": None}}


def _manifest(store: Store, artifact_id: str) -> dict[str, Any]:
    url = f"{store.public_url}/upload/manifest/{artifact_id}/wandb_manifest.json"
    file = {"id": f"manifest-file-{artifact_id}", "uploadUrl": url, "uploadHeaders": []}
    return {"id": f"manifest-{artifact_id}", "file": file}


ARTIFACT_OPERATIONS: dict[str, Callable[[Store, Variables], Answer]] = {
    "CreateArtifact": create_artifact,
    "CreateArtifactManifest": create_artifact_manifest,
    "UpdateArtifactManifest": update_artifact_manifest,
    "CreateArtifactFiles": create_artifact_files,
    "CommitArtifact": commit_artifact,
    "ArtifactByID": artifact_by_id,
    "ArtifactType": artifact_type,
    "FetchArtifactDigestAlgorithm": digest_algorithm,
    "XXHashDigestsEnabled": xxhash_digests,
}
