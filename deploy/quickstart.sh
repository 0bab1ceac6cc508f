#!/usr/bin/env bash
# From a fresh Debian 12 machine to a trained and evaluated mixture of experts, on this machine.
#
#   deploy/quickstart.sh            install what is missing, build, start the services, run
#                                   examples/smollm2-moe.yaml, print the result
#   deploy/quickstart.sh --up       the same without running anything: just the services
#   deploy/quickstart.sh --status   what is running
#   deploy/quickstart.sh --stop     stop the services; jobs, models and checkpoints stay
#   deploy/quickstart.sh --clean    stop, and remove everything the quickstart has made
#   options: --set NAME=VALUE       a parameter of the job file (repeatable), as for `moectl job submit`
#            --job FILE             another job file
#
# Everything is kept in ${MOE_HOME:-~/.local/share/moe}; the ports are MOE_PORT (default 7070, gRPC)
# and the next ones: +1 and +2 metrics of coordinator and worker, +20 Prometheus. All on loopback.
# MOE_PRESET is the CMake preset to build (default release).
# Safe to run again: what is done is not done twice, and what runs is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly HOME_DIR="${MOE_HOME:-$HOME/.local/share/moe}"
readonly CACHE_DIR="${MOE_CACHE_DIR:-$HOME/.cache/moe}"
readonly PORT="${MOE_PORT:-7070}"
readonly PROMETHEUS_PORT=$((PORT + 20))
readonly PRESET="${MOE_PRESET:-release}"
readonly BIN="$PWD/build/$PRESET/bin"
readonly CORPUS="$CACHE_DIR/corpus"

say() { printf 'quickstart: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# ---- services: started in the background, known by their pid files ------------------------------

# Whether the service that we started still runs; a reused process id does not count.
running() {
  local file="$HOME_DIR/run/$1.pid" pid
  [ -f "$file" ] || return 1
  read -r pid <"$file"
  [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$HOME_DIR"
}

# $1 name, $2 port to wait for, the rest: the command. Every command names $HOME_DIR (see running).
start() {
  local name="$1" port="$2"; shift 2
  if running "$name"; then return; fi
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "port $port is in use by another program, and $name needs it; stop that program or choose other ports with MOE_PORT=8070"
  fi
  setsid "$@" >>"$HOME_DIR/log/$name.log" 2>&1 </dev/null &
  local pid=$! tries=0
  echo "$pid" >"$HOME_DIR/run/$name.pid"
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    # Not running(): for its first moments the process still has this script's command line.
    kill -0 "$pid" 2>/dev/null || { tail -n 5 "$HOME_DIR/log/$name.log" >&2; die "$name did not start; see $HOME_DIR/log/$name.log"; }
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || die "$name does not answer on port $port; see $HOME_DIR/log/$name.log"
    sleep 0.1
  done
  say "$name is up on port $port"
}

stop() {
  local name="$1" pid tries=0
  if ! running "$name"; then rm -f "$HOME_DIR/run/$name.pid"; return; fi
  read -r pid <"$HOME_DIR/run/$name.pid"
  kill "$pid"
  while running "$name"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 100 ]; then say "$name does not stop; killing it"; kill -KILL "$pid"; fi
    sleep 0.1
  done
  rm -f "$HOME_DIR/run/$name.pid"
  say "$name stopped"
}

up() {
  mkdir -p "$HOME_DIR"/{run,log,coordinator,worker,artefacts,prometheus}
  cp deploy/prometheus/prometheus.yml deploy/prometheus/rules.yml "$HOME_DIR/prometheus/"
  cat >"$HOME_DIR/prometheus/targets.json" <<JSON
[
  {"targets": ["127.0.0.1:$((PORT + 1))"], "labels": {"component": "coordinator"}},
  {"targets": ["127.0.0.1:$((PORT + 2))"], "labels": {"component": "worker"}}
]
JSON
  start prometheus "$PROMETHEUS_PORT" prometheus --config.file="$HOME_DIR/prometheus/prometheus.yml" \
    --storage.tsdb.path="$HOME_DIR/prometheus/data" --web.listen-address="127.0.0.1:$PROMETHEUS_PORT" \
    --log.level=warn
  start coordinator "$PORT" "$BIN/moe-coordinator" --listen "127.0.0.1:$PORT" \
    --metrics-listen "127.0.0.1:$((PORT + 1))" --data-dir "$HOME_DIR/coordinator" \
    --artefact-root "$HOME_DIR/artefacts"
  start worker "$((PORT + 2))" "$BIN/moe-worker" --coordinator "127.0.0.1:$PORT" --worker-id local \
    --state-dir "$HOME_DIR/worker" --metrics-listen "127.0.0.1:$((PORT + 2))"
}

# The worker goes first: told to stop, it leaves its ranks running, so they are ended by cancelling
# what is active.
down() {
  if [ -x "$BIN/moectl" ] && running coordinator; then
    local job
    for job in $("$BIN/moectl" --endpoint "127.0.0.1:$PORT" job list --active -o name 2>/dev/null); do
      say "cancelling $job"
      "$BIN/moectl" --endpoint "127.0.0.1:$PORT" job cancel "${job#job/}" --wait >/dev/null || true
    done
  fi
  stop worker
  stop coordinator
  stop prometheus
}

# ---- what the example reads ----------------------------------------------------------------------

build() {
  say "building (about ten minutes the first time)"
  mkdir -p build
  cmake --preset "$PRESET" >build/configure.log 2>&1 || { cat build/configure.log >&2; die "CMake failed"; }
  if [ -t 1 ]; then
    cmake --build --preset "$PRESET" -j "$(nproc)"
  else
    cmake --build --preset "$PRESET" -j "$(nproc)" -- --quiet
  fi
}

farewell() {
  cat <<TEXT

What now
  export PATH="$BIN:\$PATH" MOECTL_ENDPOINT=127.0.0.1:$PORT
  moectl job list                          all jobs
  moectl job describe train                one of them: state, history, results
  moectl job steps train                   the loss, step by step
  moectl artefact list                     what was made, and where it is
  moectl artefact describe smollm2-moe-hf  the Hugging Face folder of the trained model
  http://127.0.0.1:$PROMETHEUS_PORT/graph?g0.expr=moe_train_loss&g0.tab=0
  Dashboards for Grafana are in dashboards/; deploy/grafana provisions them.

Stop the services with deploy/quickstart.sh --stop; --clean also removes $HOME_DIR.
TEXT
}

main() {
  local action=run job=examples/smollm2-moe.yaml sets=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --up | --status | --stop | --clean) action="${1#--}" ;;
      --set) [ $# -ge 2 ] || die "--set needs NAME=VALUE"; sets+=(--set "$2"); shift ;;
      --job) [ $# -ge 2 ] || die "--job needs a file"; job="$2"; shift ;;
      -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 0 ;;
      *) say "unknown option '$1'; see --help"; exit 2 ;;
    esac
    shift
  done
  case "$PORT" in *[!0-9]* | '') die "MOE_PORT='$PORT' is not a port number" ;; esac

  case "$action" in
    status)
      local name all=0
      for name in prometheus coordinator worker; do
        if running "$name"; then echo "$name: running, pid $(cat "$HOME_DIR/run/$name.pid")"; else echo "$name: not running"; all=1; fi
      done
      exit "$all"
      ;;
    stop) down; exit 0 ;;
    clean)
      down
      rm -rf "$HOME_DIR"
      say "removed $HOME_DIR; the caches in $CACHE_DIR and the build in build/ stay"
      exit 0
      ;;
  esac

  deploy/install_deps.sh build
  build
  local model
  model="$(deploy/fetch_model.sh)"
  deploy/corpus/collect.sh "$CORPUS"
  up
  if [ "$action" = up ]; then farewell; exit 0; fi

  say "submitting $job"
  "$BIN/moectl" --endpoint "127.0.0.1:$PORT" job submit -f "$job" --set "checkpoint=$model" \
    --set "corpus=$CORPUS" "${sets[@]}" --wait
  "$BIN/moectl" --endpoint "127.0.0.1:$PORT" job describe evaluate
  farewell
}

main "$@"
