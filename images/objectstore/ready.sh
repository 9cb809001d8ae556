#!/bin/bash
# Succeeds when S3 answers and the master knows of a volume server, so that objects can be stored and read.
set -euo pipefail

# Prints the answer to GET $2 on the local port $1.
get() {
  { exec {connection}<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null || return 0
  printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&"$connection"
  timeout 5 cat <&"$connection"
}

[[ $(get 8333 /healthz) == 'HTTP/1.'[01]' 200'* ]] || { echo "objectstore: S3 does not answer" >&2; exit 1; }
[[ $(get 9333 /dir/status) == *'"Url":"127.0.0.1:8080"'* ]] || { echo "objectstore: the volumes have not joined yet" >&2; exit 1; }
