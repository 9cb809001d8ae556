#!/bin/bash
# Makes the cluster, its roles and databases if they are missing, sets the passwords, then becomes postgres.
# Any other command (psql, pg_dump, ...) is run as it is.
set -euo pipefail

readonly MAJOR=17
readonly VOLUME=${PGDATA%/*}
readonly SECRETS=/etc/trainyard/postgres
readonly SETUP=/usr/share/trainyard
readonly NAMES=(mlflow mlflow_auth optuna)

fail() {
  echo "postgres: $*" >&2
  exit 1
}

# Postgres and initdb refuse to run under a user ID without a passwd entry; OpenShift gives such IDs.
name_this_user() {
  export NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/etc/group
  echo "postgres:x:$(id -u):$(id -g):postgres:/tmp:/bin/bash" > "$NSS_WRAPPER_PASSWD" \
    || fail "cannot write to /tmp: mount a writable volume there"
  export LD_PRELOAD=libnss_wrapper.so
}

password_file() {
  echo "$SECRETS/${1//_/-}-password"
}

check_passwords() {
  local name file
  for name in "${NAMES[@]}"; do
    file=$(password_file "$name")
    [[ -r $file ]] || fail "no readable file $file: mount a Secret at $SECRETS with the password of role $name under that name"
    [[ -n $(< "$file") ]] || fail "$file is empty: put the password of role $name into it"
    [[ $(< "$file") != *$'\n'* ]] || fail "$file holds more than one line: it must hold the password of role $name and nothing else"
  done
}

free_space() {
  df --output=avail --block-size=MiB "$VOLUME" | tail -n 1 | tr -d ' '
}

# The lock outlives this script (postgres inherits it), so whoever holds it is the only user of the volume on this node
# and a postmaster.pid found there is a leftover of a killed container, whatever process now has that ID.
lock_volume() {
  local error
  error=$( (: >> "$VOLUME/.lock") 2>&1) \
    || fail "cannot write to the volume $VOLUME as user $(id -u): ${error##*: } ($(free_space) free; give the pod fsGroup 0 or its volume to this user)"
  exec {lock}>> "$VOLUME/.lock"
  flock --nonblock "$lock" || fail "the volume $VOLUME is in use by another container: two servers would destroy the data"
  rm -f "$PGDATA/postmaster.pid"
}

check_data() {
  local found
  [[ -O $PGDATA ]] || fail "$PGDATA belongs to user $(stat -c %u "$PGDATA"), this container runs as user $(id -u): run it as that user, or change the owner of all files"
  found=$(cat "$PGDATA/PG_VERSION" 2>&1) || fail "$PGDATA holds no PostgreSQL data ($found): empty the volume or mount the right one"
  [[ $found == "$MAJOR" ]] || fail "$PGDATA holds data of PostgreSQL $found, this image runs $MAJOR: dump it with PostgreSQL $found (pg_dumpall) and restore it into an empty volume"
}

# A data directory appears under its own name only when it is complete: an initdb killed half-way leaves only the other.
create_data() {
  local partial=$PGDATA.partial
  rm -rf "$partial"
  echo "postgres: creating a database cluster in $PGDATA"
  # The builtin collation never changes, so a newer C library or ICU cannot corrupt an index.
  initdb --pgdata="$partial" --username=postgres --auth-local=peer --auth-host=reject --data-checksums --no-instructions \
    --encoding=UTF8 --locale=C.UTF-8 --locale-provider=builtin --builtin-locale=C.UTF-8 > /tmp/initdb.log 2>&1 \
    || { cat /tmp/initdb.log >&2; fail "initdb failed, see above ($(free_space) free on $VOLUME; it needs 64 MiB)"; }
  [[ ! -d $PGDATA ]] || rmdir "$PGDATA" 2> /dev/null \
    || fail "$PGDATA is not empty and holds no PostgreSQL data: empty the volume or mount the right one"
  mv "$partial" "$PGDATA"
  sync "$VOLUME"
}

# Runs a server that only this script can reach, and never writes a statement with a password to the log.
set_up_roles() {
  local server name status=0
  (umask 077 && mkdir -p /tmp/setup)
  postgres -c listen_addresses= -c unix_socket_directories=/tmp/setup -c hba_file="$SETUP/pg_hba.conf" \
    -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c shared_preload_libraries= \
    -c log_min_messages=error &
  server=$!
  trap 'kill -INT $server; wait $server; exit 0' INT TERM
  until pg_isready --quiet --host=/tmp/setup; do
    kill -0 "$server" 2> /dev/null || fail "the server did not start, see above ($(free_space) free on $VOLUME)"
    sleep 0.05
  done
  for name in "${NAMES[@]}"; do
    PASSWORD_FILE=$(password_file "$name") psql --host=/tmp/setup --dbname=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
      --set=name="$name" --file="$SETUP/roles.sql" > /dev/null || status=$?
  done
  kill -INT "$server"
  wait "$server" || true
  trap 'exit 0' INT TERM
  [[ $status == 0 ]] || fail "could not set up the roles and databases, see above"
}

# As process 1, bash would ignore these while it waits for initdb.
trap 'exit 0' INT TERM
if [[ ${1:-} == -* ]]; then
  set -- postgres "$@"
fi
name_this_user
if [[ ${1:-} == postgres ]]; then
  shift
  check_passwords
  lock_volume
  [[ -e $PGDATA/PG_VERSION ]] || [[ -n $(ls -A "$PGDATA" 2> /dev/null) ]] || create_data
  check_data
  set_up_roles
  set -- postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c hba_file="$SETUP/pg_hba.conf" "$@"
fi
trap - INT TERM
exec "$@"
