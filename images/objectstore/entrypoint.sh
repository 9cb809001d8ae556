#!/bin/bash
# Writes the access keys into SeaweedFS' own format and runs a one-process S3 server on port 8333.
set -euo pipefail

readonly SECRETS=/etc/trainyard/objectstore
readonly DATA=/data
readonly CONFIG=/tmp/s3.json

fail() {
  echo "objectstore: $*" >&2
  exit 1
}

# Prints the key in file $1; the characters allowed are those that need no escaping in JSON, XML, URLs and shells.
read_key() {
  local file=$SECRETS/$1 least=$2 key
  [[ -r $file ]] || fail "no readable file $file: mount a Secret at $SECRETS with the keys access-key and secret-key"
  key=$(< "$file")
  ((${#key} >= least)) || fail "$file holds ${#key} characters: give at least $least"
  [[ $key =~ ^[A-Za-z0-9/+=._-]+$ ]] || fail "$file holds a character that is not allowed: use letters, digits and / + = . _ -"
  echo "$key"
}

check_volume() {
  local error
  error=$( (: >> "$DATA/.lock") 2>&1) \
    || fail "cannot write to the volume $DATA as user $(id -u): ${error##*: } ($(df --output=avail --block-size=MiB "$DATA" | tail -n 1 | tr -d ' ') free; give the pod fsGroup 0 or its volume to this user)"
  # Inherited by weed, so that two containers cannot write to one volume on this node.
  exec {lock}>> "$DATA/.lock"
  flock --nonblock "$lock" || fail "the volume $DATA is in use by another container: two servers would destroy the data"
}

access_key=$(read_key access-key 3)
secret_key=$(read_key secret-key 16)
check_volume
(umask 077 && cat > "$CONFIG") << JSON || fail "cannot write to /tmp: mount a writable volume there"
{"identities": [{"name": "trainyard", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}]}]}
JSON
cd /tmp
# Only S3 listens beyond localhost. Volumes of 64 MB let a small disk be filled evenly and reclaimed after deletions;
# -volume.max=0 takes as many as the disk holds. Being its only peer, the master need not wait 10 s for an election.
# No bucket appears by a typo, and nothing is reported to anyone.
weed -logtostderr=true server -dir="$DATA" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
  -master.peers=none -master.volumeSizeLimitMB=64 -master.telemetry=false \
  -volume.max=0 -volume.minFreeSpace=64MiB -volume.preStopSeconds=0 \
  -filer -filer.disableDirListing -filer.exposeDirectoryData=false \
  -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.config="$CONFIG" -s3.iam=false -s3.autoCreateBucket=false \
  -s3.port.iceberg=0 -s3.port.lance=0 "$@" &
readonly WEED=$!

# weed closes its volumes within a second, and then waits 30 s for streams between its own parts. Every acknowledged write
# is in the kernel by then, so it is ended instead.
stop() {
  local _
  kill -TERM "$WEED"
  for _ in {1..30}; do
    kill -0 "$WEED" 2> /dev/null || exit 0
    sleep 0.1
  done
  kill -KILL "$WEED"
  exit 0
}
trap stop TERM INT
wait "$WEED"
