#!/usr/bin/env bash
# What more nodes cost and bring: clusters of several sizes behind one coordinator, loaded alike, and each grown by one
# node while it serves. Prints one table.
#
#   scripts/scale.sh                              1, 2, 4 and 8 nodes, 2 s each run
#   NODES="3 8" SECONDS_EACH=5 scripts/scale.sh
#
#   NODES         sizes (1 2 4 8)                 SECONDS_EACH  the measured time of a run (2)
#   KEYS          keys in each cluster (200000)   KV            the program (target/release/kv, built if need be)
#
# Every key is kept on three nodes, or on all if there are fewer, W=2 R=2 (of one node: 1); durability `os`, so that disks
# do not count. All processes share this machine: what grows with the number of nodes is seen in the CPU time of all
# servers for an operation, not in operations a second. Everything is in a temporary directory; only what was
# started here is ended.
set -euo pipefail

cd "$(dirname "$0")/.."
NODES=${NODES:-1 2 4 8}
SECONDS_EACH=${SECONDS_EACH:-2}
KEYS=${KEYS:-200000}
source scripts/servers.sh

node() { our "$dir/run/n$1.log" node --id "n$1" --listen 127.0.0.1:0 --data "$dir/run/n$1" --durability os; }
kv() { "$KV" --connect "$coordinator" "$@"; }

cluster() { # NODES
  local n nodes=() copies=$(($1 < 3 ? $1 : 3)) quorum
  quorum=$((copies < 2 ? 1 : 2))
  for ((n = 1; n <= $1; n++)); do
    node "$n"
    nodes+=("$addr")
  done
  our "$dir/run/coordinator.log" coordinator --listen 127.0.0.1:0 --data "$dir/run/coordinator"
  coordinator=$addr
  for ((n = 1; n <= $1; n++)); do kv addnode "n$n" "${nodes[n - 1]}" >/dev/null; done
  kv setreplica "$copies" >/dev/null
  kv rebalance >/dev/null
  kv setquorum "$quorum" "$quorum" >/dev/null
}

# A number of a JSON object: number NAME OBJECT
number() {
  local value
  value=$(grep -o "\"$1\":[-0-9.e+]*" <<<"$2" | head -1 || true)
  printf '%s' "${value#*:}"
}

# load ARGS…: one run of the loader; sets `ops`, `cpu` (µs of all servers for an operation) and `p99` (ms).
load() {
  local object
  object=$(kv --json bench --for "${SECONDS_EACH}s" --key-count "$KEYS" --verify none "$@") || true
  if [[ $object != *ops_per_s* ]]; then
    say "error: kv bench $*: $object"
    exit 1
  fi
  ops=$(number ops_per_s "$object")
  cpu=$(number server_cpu_us_per_op "$object")
  p99=$(number p99_ms "$object")
}

# Copies of the fullest node against the mean.
balance() {
  kv --json show | grep -o '"keys":[0-9]*' | cut -d: -f2 |
    awk '{ sum += $1; if ($1 > most) most = $1 } END { printf "%.2f", sum ? most * NR / sum : 0 }'
}

short() { awk -v n="$1" 'BEGIN { if (n >= 10000) printf "%.0f k", n / 1000; else printf "%.0f", n }'; }
two() { awk -v n="$1" 'BEGIN { printf "%.2f", n }'; }

table=()
add() {
  table+=("$1")
  say "$1"
}

measure() { # NODES
  local cells=() put16 after quiet busy moved=0 took=0 report pid
  cluster "$1"
  load --reads 0
  cells+=("$(short "$ops"), $(two "$cpu")")
  load --reads 0 -P 16 --no-load
  cells+=("$(short "$ops"), $(two "$cpu")")
  put16=$cpu
  load --reads 100 --no-load
  cells+=("$(short "$ops"), $(two "$cpu")")
  load --reads 100 -P 16 --no-load
  cells+=("$(short "$ops"), $(two "$cpu")")
  cells+=("$(balance)")
  printf '%s %s %s\n' "$1" "$put16" "$cpu" >>"$dir/at16"

  # One node more, while a few clients go on.
  local few=(-c 4 --reads 90 --no-load --warm-up 100ms)
  load "${few[@]}"
  quiet=$p99
  node $(($1 + 1))
  kv addnode "n$(($1 + 1))" "$addr" >/dev/null
  kv --json rebalance >"$dir/run/rebalance" &
  pid=$!
  load "${few[@]}"
  busy=$p99
  wait "$pid" || true
  report=$(tail -1 "$dir/run/rebalance")
  moved=$(number copied "$report")
  took=$(number elapsed_ms "$report")
  after=$(balance)
  cells+=("$(short "${moved:-0}")")
  cells+=("$(short "$(awk -v n="${moved:-0}" -v ms="${took:-0}" 'BEGIN { print (ms > 0 ? n * 1000 / ms : 0) }')")")
  cells+=("$quiet, $busy" "$after")
  local cell line="| $1 |"
  for cell in "${cells[@]}"; do line+=" $cell |"; done
  add "$line"
  stop_all
}

mkdir -p "$dir"/run
add "| nodes | put P=1: ops/s, µs | put P=16 | get P=1 | get P=16 | fullest/mean | copies moved to one more | a second | p99 ms without, with | fullest/mean then |"
add "|---|---|---|---|---|---|---|---|---|---|"
for nodes in $NODES; do
  measure "$nodes"
done
printf '\n%s keys, 50 connections (while it grows: 4), %s s a run, %s cores, load %s. µs: CPU time of all servers for an operation.\n\n' \
  "$KEYS" "$SECONDS_EACH" "$(nproc)" "$(cut -d' ' -f1 /proc/loadavg)"
printf '%s\n' "${table[@]}"
# The most nodes against the fewest that keep three copies.
awk '$1 >= 3 { if (!n) { n = $1; put = $2; get = $3 } m = $1; p = $2; g = $3 }
  END { if (m > n) printf "\nCPU time for an operation at P=16, %d nodes / %d: put %.2f, get %.2f\n", m, n, p / put, g / get }' "$dir/at16"
