# For bench.sh and scale.sh, which read this: servers that are started in a temporary directory, and ended when the script
# is. Sets `KV`, the program; `dir`, where each run has `run`; `addr` and `pid` of who was started last. A command in `pin`
# stands before each server.
if [[ -z ${KV:-} ]]; then
  cargo build --release --quiet
  KV=target/release/kv
fi
KV=$(realpath "$KV")

dir=$(mktemp -d)
pids=()
pin=()

stop_all() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
  rm -rf "$dir"/run
  mkdir -p "$dir"/run
}
finish() {
  stop_all
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "$*" >&2; }

# Waits until a command succeeds: wait_for WHAT COMMAND…
wait_for() {
  local what=$1 n
  shift
  for ((n = 0; n < 300; n++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  say "error: $what did not come"
  exit 1
}

# start LOG COMMAND…: in the background; sets `pid`.
start() {
  local log=$1
  shift
  "${pin[@]}" "$@" >"$log" 2>"$log.err" </dev/null &
  pid=$!
  pids+=("$pid")
}

# our LOG ARGS…: one of our servers; sets `addr`.
our() {
  local log=$1
  shift
  start "$log" "$KV" "$@"
  wait_for "the ready line of kv $1" grep -q '"ready"' "$log"
  addr=$(sed -n 's/.*"ready":"\([^"]*\)".*/\1/p' "$log")
}
