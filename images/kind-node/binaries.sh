#!/usr/bin/env bash
# Build the named programs from the Go module proxy. Usage: binaries.sh FOLDER NAME... ; programs already in FOLDER are left alone.
# Names: kubernetes (its seven programs), etcd, coredns, local-path-provisioner, kind, helm. Needs Go 1.21 or newer: it fetches the rest itself.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:?usage: binaries.sh FOLDER NAME...}
shift
# shellcheck source=images/kind-node/versions.env
source "$here/versions.env"

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
partial=$(mktemp -d "$folder/.partial.XXXXXX")
trap 'rm -rf -- "$partial"' EXIT
export CGO_ENABLED=0 GOTOOLCHAIN=auto GOWORK=off

build_kubernetes() {
  local package flags="-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    # kubeadm reads its own version from these; without them it refuses to run.
    flags+=" -X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=34"
    flags+=" -X $package.gitTreeState=archive -X $package.gitCommit=module -X $package.buildDate=2026-01-01T00:00:00Z"
  done
  cd "$here/kubernetes"
  go build -trimpath -ldflags "$flags" -o "$partial/" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet,kubeadm,kubectl}
}

build_etcd() {
  cd "$here/etcd"
  go build -trimpath -ldflags "-s -w" -o "$partial/etcd" go.etcd.io/etcd/server/v3
}

install_go() {
  cd "$partial"
  GOBIN=$partial GOFLAGS='' go install -trimpath -ldflags "-s -w" "$1"
}

for name in "$@"; do
  marker=$name
  [[ $name == kubernetes ]] && marker=kubectl
  [[ -x $folder/$marker ]] && continue
  started=$SECONDS
  case $name in
    kubernetes) (build_kubernetes) ;;
    etcd) (build_etcd) ;;
    coredns) (install_go "github.com/coredns/coredns@$COREDNS_VERSION") ;;
    local-path-provisioner) (install_go "github.com/rancher/local-path-provisioner@$LOCAL_PATH_PROVISIONER_VERSION") ;;
    kind) (install_go "sigs.k8s.io/kind@$KIND_VERSION") ;;
    helm) (install_go "helm.sh/helm/v4/cmd/helm@$HELM_VERSION") ;;
    *)
      echo "binaries.sh: no program is called '$name'" >&2
      exit 2
      ;;
  esac
  # Moved one by one, the marker last: a name that is there is whole.
  find "$partial" -mindepth 1 -maxdepth 1 -type f ! -name "$marker" -exec mv -t "$folder" {} +
  mv "$partial/$marker" "$folder/$marker"
  echo "built $name in $((SECONDS - started)) s"
done
