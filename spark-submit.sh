#!/usr/bin/env bash
# The one launcher: sets this project up (once), then hands over to `python -m jobs.<command>`. See --help.
set -euo pipefail

project=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)
venv=$project/.venv
python=$venv/bin/python
lock=$project/conf/requirements.lock
spark_lock=$project/conf/requirements-spark.lock
build_lock=$project/conf/requirements-build.lock
locks=("$build_lock" "$lock" "$spark_lock" "$project/conf/jars.lock")
setup_log=$venv/setup.log

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

describe() {
  case $1 in
    demo) echo "everything on this machine: services, generator, streaming job, API, live summary" ;;
    stack) echo "only the embedded services: up, down, status, env" ;;
    stream) echo "the streaming job: Kafka to the sinks" ;;
    generate) echo "test data into PostgreSQL: continuous, batch or historical" ;;
    serve) echo "the monitoring API and its page" ;;
    backfill) echo "a date range from PostgreSQL into the sinks" ;;
    dead-letters) echo "look at rejected messages, send them again, discard them" ;;
    reconcile) echo "compare PostgreSQL with every sink, and repair" ;;
    benchmark) echo "measure this machine" ;;
    notebook) echo "explore the results in Jupyter" ;;
    *) echo "jobs/$1.py" ;;
  esac
}

usage() {
  local command
  echo "usage: ./spark-submit.sh <command> [options]       (each command has --help)"
  echo
  for command in demo stack stream generate serve backfill dead-letters reconcile benchmark notebook; do
    [[ ! -f $project/jobs/${command//-/_}.py ]] || printf '  %-14s%s\n' "$command" "$(describe "$command")"
  done
  printf '  %-14s%s\n' test "all tests, or those that pytest's own arguments name"
  echo
  echo "Try it:  ./spark-submit.sh demo"
  echo "Spark's own options go after --, e.g.  ./spark-submit.sh stream -- --master local[4]"
  echo "The first start downloads Python packages and jars into .venv (a minute or two); later ones need no network."
}

find_python() {
  local candidate
  for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 with its venv module is needed and was not found on PATH.
  Debian, Ubuntu: apt install python3.11 python3.11-venv     Fedora: dnf install python3.11
  or with pyenv:  pyenv install 3.11 && pyenv shell 3.11"
}

log_of() { # lock
  printf '%s/setup-%s.log' "$venv" "$(basename "$1" .lock)"
}

# pip with a lock; shows the names as they come.
locked_pip() { # what for, lock, pip's command and options
  say "  $1"
  "$python" -m pip "${@:3}" --require-hashes --no-deps --no-input --disable-pip-version-check \
    --progress-bar off -r "$2" 2>&1 | tee "$(log_of "$2")" |
    { grep --line-buffered -oE '^Collecting [A-Za-z0-9._-]+==[^ ]+|^Building .*|^Installing' || true; } |
    sed -u 's/^Collecting /    /; s/^Building .*/    unpacking Spark/; s/^Installing/    installing/' >&2
}

give_up() { # lock
  tail -n 15 "$(log_of "$1")" >&2
  fail "Set-up failed; the whole output is in $(log_of "$1").
Start again to go on (the first start needs the network)."
}

install() { # what, lock
  locked_pip "$1" "$2" install --no-compile || give_up "$2"
}

# Spark comes as source, and is half of the work: its wheel is made while the other packages are installed. Most of it
# is jars, and it is unpacked at once; so it is not compressed (16 instead of 39 s).
install_packages() {
  local wheels=$venv/wheels outcome=0
  if is_ready "$venv/.ready-spark" "$spark_lock"; then # another lock has changed
    install "Python packages" "$lock"
    return
  fi
  locked_pip "Spark" "$spark_lock" wheel --wheel-dir "$wheels" \
    --no-build-isolation --config-settings=--build-option=--compression=stored &
  (install "Python packages" "$lock") || outcome=$?
  wait $! || give_up "$spark_lock" # after all that the others have said
  ((outcome == 0)) || exit "$outcome"
  "$python" -m pip install --no-compile --no-deps --no-index --quiet --disable-pip-version-check "$wheels"/*.whl \
    >>"$setup_log" 2>&1 || fail "Set-up failed: Spark could not be installed; see $setup_log."
  rm -rf "$wheels"
  fingerprint "$spark_lock" >"$venv/.ready-spark"
}

# What a finished set-up was made from: a changed lock makes it run again.
fingerprint() { # files
  cat -- "$@" | sha256sum
}

is_ready() { # stamp, files
  [[ -f $1 && $(<"$1") == "$(fingerprint "${@:2}")" ]]
}

is_set_up() {
  is_ready "$venv/.ready" "${locks[@]}" && [[ -f $venv/.java ]] || return 1
  local found
  found=$(<"$venv/.java")
  [[ -x ${found##*|}/bin/java ]] || return 1 # it was removed, as by an update into another folder
  [[ $found == "$(java_there)"* || ${found##*|} == "${JAVA_HOME:-}" ]]
}

# The Java that was found holds for as long as JAVA_HOME and PATH lead to the same ones.
java_there() {
  printf '%s|%s|' "${JAVA_HOME:-}" "$(command -v java || true)"
}

java_home() {
  local found
  found=$(<"$venv/.java")
  printf '%s' "${found##*|}"
}

find_java() {
  local home
  if ! home=$("$python" -m engagement.embedded.java 2>/dev/null); then
    install "no Java 17 or newer on this machine: fetching one into .venv" "$project/conf/requirements-java.lock"
    home=$("$python" -m engagement.embedded.java) || exit 1
  fi
  printf '%s%s\n' "$(java_there)" "$home" >"$venv/.java.$$"
  mv "$venv/.java.$$" "$venv/.java"
}

# Nothing rests on it but some seconds of each start.
archive_classes() {
  say "  an archive of Spark's classes: each job starts some seconds earlier"
  JAVA_HOME=$(java_home) "$python" -m engagement.embedded.class_archive >>"$setup_log" 2>&1 ||
    say "    could not be made (see $setup_log); jobs start without it"
}

set_up() {
  is_set_up && return
  if is_ready "$venv/.ready" "${locks[@]}"; then
    local before=""
    [[ ! -f $venv/.java ]] || before=$(java_home)
    find_java
    [[ $(java_home) == "$before" ]] || archive_classes # it holds for one Java
    return
  fi
  say "Setting up (once) ..."
  if [[ -f $venv/.incomplete ]]; then # an interrupted set-up: keep only the jars, which are verified one by one
    find "$venv" -mindepth 1 -maxdepth 1 ! -name jars -exec rm -rf {} +
  fi
  local base
  base=$(find_python)
  mkdir -p "$venv"
  touch "$venv/.incomplete"
  [[ -x $python ]] || "$base" -m venv "$venv" || fail "python3.11 -m venv failed in $venv"
  # What a Python brings may be too old to make Spark's wheel.
  install "pip and setuptools" "$build_lock"
  install_packages
  find_java
  say "  jars: Spark's Kafka source, Kafka, Debezium"
  "$python" -m engagement.embedded.jars || exit 1
  archive_classes &
  local archiving=$! outcome=0
  (set_up_more) || outcome=$?
  wait "$archiving"
  fingerprint "${locks[@]}" >"$venv/.ready"
  rm -f "$venv/.incomplete"
  ((outcome == 0)) || exit "$outcome" # what jobs need is there all the same
  say "  done in $SECONDS s"
}

has_more() {
  [[ -z $more ]] || is_ready "$venv/.ready-$more" "$project/conf/requirements-$more.lock"
}

set_up_more() {
  has_more && return
  install "packages for $command" "$project/conf/requirements-$more.lock"
  fingerprint "$project/conf/requirements-$more.lock" >"$venv/.ready-$more"
}

# One at a time: the lock is on the project folder itself and goes with the subshell, so that no service inherits it.
locked() { # function
  (
    flock --nonblock 9 || { say "Another set-up of this project is running; waiting for it ..."; flock 9; }
    "$1"
  ) 9<"$project"
}

command=${1:-}
case $command in
  -h | --help | help) usage; exit 0 ;;
  "") usage >&2; exit 2 ;;
esac
shift
if [[ $command != test ]] && ! [[ $command =~ ^[a-z][a-z-]*$ && -f $project/jobs/${command//-/_}.py ]]; then
  say "unknown command: $command"
  usage >&2
  exit 2
fi

# Another Spark or another project's modules on this machine must not mix with ours.
unset SPARK_HOME SPARK_DIST_CLASSPATH PYTHONHOME
export PYTHONPATH=$project/lib:$project TZ=UTC PYSPARK_PYTHON=$python PYSPARK_DRIVER_PYTHON=$python
case $command in # packages that it alone needs: their lock
  test) more=dev ;;
  notebook) more=notebook ;;
  *) more="" ;;
esac
is_set_up || locked set_up
has_more || locked set_up_more
JAVA_HOME=$(java_home)
export JAVA_HOME

if [[ $command == test ]]; then
  cd -- "$project"
  # Everything takes two workers; tests/conftest.py says which tests share one.
  (($#)) || set -- -n 2 --no-loadscope-reorder
  exec "$python" -m pytest "$@"
fi
# How long it took to get here: the set-up, for the report of `demo`.
export ENGAGEMENT_SETUP_SECONDS=$SECONDS
exec "$python" -m "jobs.${command//-/_}" "$@"
