#!/usr/bin/env bash
# Build the kind node image from Debian and the Go module proxy. Usage: build.sh IMAGE BASE_IMAGE BIN_FOLDER
# Needs a Docker engine and Go; about 15 minutes when nothing is cached, under one when BIN_FOLDER is filled.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=${1:?usage: build.sh IMAGE BASE_IMAGE BIN_FOLDER}
base=${2:?}
bin=${3:?}
# shellcheck source=images/kind-node/versions.env
source "$here/versions.env"

"$here/binaries.sh" "$bin" kubernetes etcd coredns local-path-provisioner kind
kind_files=$(cd / && go mod download -json "sigs.k8s.io/kind@$KIND_VERSION" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')/images/base/files

builder=trainyard-node-build-$$
tags=()
cleanup() {
  docker rm -f -v "$builder" >/dev/null 2>&1 || true
  # The node image carries them; on the engine they are only in the way.
  ((${#tags[@]} == 0)) || docker rmi "${tags[@]}" "$image-base" >/dev/null 2>&1 || true
}
trap cleanup EXIT

build() {
  docker build --quiet --target "$1" --tag "$2" --build-arg "BASE=$base" --build-arg "KUBERNETES_VERSION=$KUBERNETES_VERSION" \
    --build-arg "PAUSE_IMAGE=registry.k8s.io/pause:$PAUSE_VERSION" \
    --build-context "bin=$bin" --build-context "kind=$kind_files" "$here" >/dev/null
}

while read -r tag; do
  target=${tag%:*}
  build "${target##*/}" "$tag"
  tags+=("$tag")
done < <("$bin/kubeadm" config images list --kubernetes-version "$KUBERNETES_VERSION")
for target in local-path-provisioner local-path-helper; do
  build "$target" "localhost/trainyard/$target:pinned"
  tags+=("localhost/trainyard/$target:pinned")
done
build node-base "$image-base"

docker run --detach --name "$builder" --privileged --entrypoint sleep "$image-base" infinity >/dev/null
docker exec "$builder" bash -c 'nohup containerd >/tmp/containerd.log 2>&1 & for _ in $(seq 60); do ctr info >/dev/null 2>&1 && exit; sleep 1; done; cat /tmp/containerd.log; exit 1'
docker save "${tags[@]}" | docker exec -i "$builder" ctr -n k8s.io images import --label=io.cri-containerd.pinned=pinned --all-platforms --no-unpack --digests - >/dev/null
docker exec "$builder" sh -c 'pkill containerd; rm -f /tmp/containerd.log'
docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' "$builder" "$image" >/dev/null
