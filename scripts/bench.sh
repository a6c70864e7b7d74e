#!/usr/bin/env bash
# Measures us against the stores that are installed here, with one and the same loader, and prints a table of ratios.
#
#   scripts/bench.sh                        all rows, 3 rounds of 3 s each
#   ROWS="1 2 7" ROUNDS=5 SECONDS_EACH=5 scripts/bench.sh
#
# A ratio counts only from paired rounds: in each round both sides are started anew, one after the other, in an
# order that changes from round to round; the table has the median of the rounds' ratios, and the least and
# the greatest. Before a run it waits until the machine is quiet, and a run beside which others used more than
# FOREIGN_MAX cores is repeated, up to RETRIES times; what is still disturbed then is marked with a *.
#
#   ROWS          which rows (default: all)         ROUNDS        pairs for each row (3)
#   SECONDS_EACH  the measured time of a run (3)    RETRIES       repetitions of a disturbed run (5)
#   FOREIGN_MAX   cores that others may use (0.15)  KV            the program (target/release/kv, built if need be)
#   QUIET_WAIT    seconds to wait for quiet at most (60)
#
# Peers: redis-server (with redis-cli), memcached, etcd, as found in PATH; rows without their peer are skipped,
# aloud. Everything listens on loopback, in a temporary directory; only what was started here is ended.
set -euo pipefail

cd "$(dirname "$0")/.."
ROWS=${ROWS:-1 2 3 4 5 6 7 8 9 10 11 12 13 22 5c 7c 9c 10c 12c}
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-3}
RETRIES=${RETRIES:-5}
FOREIGN_MAX=${FOREIGN_MAX:-0.15}
QUIET_WAIT=${QUIET_WAIT:-60}
source scripts/servers.sh

# Idle connections are files of servers and loader; where that is not allowed, row 22 says so.
ulimit -n 20000 2>/dev/null || true
table=()
lasting=$SECONDS_EACH

# A port that is free now, and none that connections get: one that was closed keeps its own for a minute.
free_port() {
  while :; do
    port=$((10000 + RANDOM % 22000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
  done
}

# --- sides. Each function starts one and sets `args`, what the loader needs to reach it. ---

many=()
if "$KV" node --help | grep -q -- --max-connections; then many=(--max-connections 12000); fi

node() { # DURABILITY
  our "$dir/run/n1.log" node --id n1 --listen 127.0.0.1:0 --data "$dir/run/n1" --durability "$1" "${many[@]}"
  args=(--to "$addr")
}

cluster() { # DURABILITY NODES: keyspaces `one` (N=1) and `three` (N=3 R=2 W=2, where there are as many nodes)
  local n nodes=()
  for ((n = 1; n <= $2; n++)); do
    our "$dir/run/n$n.log" node --id "n$n" --listen 127.0.0.1:0 --data "$dir/run/n$n" --durability "$1"
    nodes+=("$addr")
  done
  our "$dir/run/coordinator.log" coordinator --listen 127.0.0.1:0 --data "$dir/run/coordinator"
  for ((n = 1; n <= $2; n++)); do "$KV" --connect "$addr" addnode "n$n" "${nodes[n - 1]}" >/dev/null; done
  "$KV" --connect "$addr" keyspace create one --n 1 --r 1 --w 1 >/dev/null
  if (($2 >= 3)); then "$KV" --connect "$addr" keyspace create three --n 3 --r 2 --w 2 >/dev/null; fi
  first=${nodes[0]}
}
coordinator_three() { cluster "$1" 3; args=(--connect "$addr" --keyspace three); }
coordinator_one() { cluster "$1" 3; args=(--connect "$addr" --keyspace one); }
behind_one() { cluster "$1" 1; args=(--connect "$addr" --keyspace one); }
# The same clusters by the client library, which goes straight to the owners: all callers share one client.
client_three() { coordinator_three "$1"; args+=(--client); }
client_one() { behind_one "$1"; args+=(--client); }
straight_one() { cluster "$1" 1; args=(--to "$first" --keyspace one); }

redis_at() { # PORT ARGS…
  local at=$1
  shift
  mkdir -p "$dir/run/redis-$at"
  start "$dir/run/redis-$at.log" redis-server --bind 127.0.0.1 --port "$at" --dir "$dir/run/redis-$at" \
    --save '' --maxclients 15000 "$@"
  wait_for redis-server redis-cli -p "$at" ping
}
redis() { # [ARGS…]
  free_port
  redis_at "$port" "$@"
  args=(--peer "redis://127.0.0.1:$port" --server-pid "$pid")
}
redis_always() { redis --appendonly yes --appendfsync always; }
has_all_replicas() {
  [[ $(redis-cli -p "$1" info replication | grep -c state=online) == 2 ]] &&
    redis-cli -p "$1" set probe 1 && [[ $(redis-cli -p "$1" wait 2 1000) == 2 ]]
}
redis_waiting() { # [ARGS…]: a master and two replicas, each SET acknowledged by one of them
  free_port
  local master=$port n all
  redis_at "$master" --repl-diskless-sync-delay 0 "$@"
  all=(--server-pid "$pid")
  for n in 1 2; do
    free_port
    redis_at "$port" --replicaof 127.0.0.1 "$master" "$@"
    all+=(--server-pid "$pid")
  done
  wait_for 'both replicas' has_all_replicas "$master"
  args=(--peer "redis://127.0.0.1:$master?wait=1" "${all[@]}")
}
redis_waiting_always() { redis_waiting --appendonly yes --appendfsync always; }

leads() { # PORT: whether this etcd is the leader
  local answer body='{}'
  exec 4<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'POST /v3/maintenance/status HTTP/1.0\r\nContent-Length: 2\r\n\r\n%s' "$body" >&4
  answer=$(cat <&4)
  exec 4>&-
  local me leader
  me=$(sed -n 's/.*"member_id":"\([0-9]*\)".*/\1/p' <<<"$answer")
  leader=$(sed -n 's/.*"leader":"\([0-9]*\)".*/\1/p' <<<"$answer")
  [[ -n $me && $me == "$leader" ]]
}
find_leader() {
  local at
  for at in "$@"; do
    if leads "$at" 2>/dev/null; then leader=$at && return 0; fi
  done
  return 1
}
etcd3() {
  local n clients=() peers=() all=() members=()
  for n in 0 1 2; do
    free_port; clients+=("$port")
    free_port; peers+=("$port")
    members+=("e$n=http://127.0.0.1:$port")
  done
  local together
  together=$(IFS=,; printf '%s' "${members[*]}")
  for n in 0 1 2; do
    local client=http://127.0.0.1:${clients[n]} peer=http://127.0.0.1:${peers[n]}
    start "$dir/run/etcd$n.log" etcd --name "e$n" --data-dir "$dir/run/etcd$n" --logger zap --log-level error \
      --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
      --initial-cluster "$together" --initial-cluster-state new
    all+=(--server-pid "$pid")
  done
  # The leader itself: followers would pass requests on.
  wait_for 'a leader of etcd' find_leader "${clients[@]}"
  find_leader "${clients[@]}"
  args=(--peer "etcd://127.0.0.1:$leader" "${all[@]}")
  wait_for 'a put of etcd' "$KV" bench "${args[@]}" -c 1 --key-count 1 --ops 1 --reads 0 --warm-up 0s --verify none
}
memcached1() {
  free_port
  start "$dir/run/memcached.log" memcached -t 1 -l 127.0.0.1 -p "$port" -c 15000 -m 1024 -u "$(id -un)"
  args=(--peer "memcached://127.0.0.1:$port" --server-pid "$pid")
  wait_for memcached "$KV" bench "${args[@]}" -c 1 --key-count 1 --ops 1 --warm-up 0s --verify none
}

# --- runs ---

# A number of a JSON object: number NAME OBJECT
number() {
  local value
  value=$(grep -o "\"$1\":[-0-9.e+]*" <<<"$2" | head -1 || true)
  printf '%s' "${value#*:}"
}
is_more() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'; }
over() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.3f", a / b; else print "nan" }'; }
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8; exit }' /proc/stat; }

wait_for_quiet() {
  local n before
  for ((n = 0; n < QUIET_WAIT * 2; n++)); do
    before=$(busy)
    sleep 0.5
    # Ticks of 10 ms in half a second.
    if ! is_more "$(($(busy) - before))" "$(awk -v m="$FOREIGN_MAX" 'BEGIN { print m * 50 + 2 }')"; then return; fi
  done
  say "  the machine does not get quiet"
}

# One run of the loader: sets `ops`, `p99` and `object`; adds to `marks`. Fails when the run says that what was
# read is wrong, or nothing could be measured.
run() { # LOADER ARGS…
  local n foreign code
  for ((n = 0; n <= RETRIES; n++)); do
    wait_for_quiet
    code=0
    object=$("${pin[@]}" "$KV" --json bench --for "${lasting}s" "$@") || code=$?
    if ((code != 0)); then say "    exit code $code: kv bench $*: $object"; fi
    if ((code != 0 && code != 5)) || [[ $object != *ops_per_s* ]]; then return 1; fi
    # Errors: they are in the object above, and marked in the table.
    if ((code == 5)); then marks+='!'; fi
    ops=$(number ops_per_s "$object")
    p99=$(number p99_ms "$object")
    foreign=$(number foreign_cores "$object")
    say "    $(printf '%9.0f ops/s  p50 %s  p99 %s ms  server %.2f µs/op  client %.2f  foreign %.2f' "$ops" \
      "$(number p50_ms "$object")" "$p99" "$(number server_cpu_us_per_op "$object")" \
      "$(number client_cpu_us_per_op "$object")" "$foreign")"
    if ! is_more "$foreign" "$FOREIGN_MAX"; then return; fi
  done
  marks+='*'
}

# Median, least and greatest of numbers.
median() { sort -g | awk '{ a[NR] = $1 } END { m = NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2; printf "%.4g", m }'; }
spread() { sort -g | awk '{ a[NR] = $1 } END { printf "%.2f-%.2f", a[1], a[NR] }'; }
lines() { printf '%s\n' "$@"; }
short() { awk -v n="$1" 'BEGIN { if (n >= 10000) printf "%.0f k", n / 1000; else printf "%.0f", n }'; }

# Whether a ratio reaches goal or gate: verdict RATIO GOAL GATE, `<` before the number where less is better.
verdict() {
  awk -v r="$1" -v goal="$2" -v gate="$3" 'BEGIN {
    less = sub(/^</, "", goal); sub(/^</, "", gate)
    if (less ? r <= goal : r >= goal) print "goal"
    else if (less ? r <= gate : r >= gate) print "gate"
    else print "below"
  }'
}

# Each mark once.
once() { printf '%s' "$marks" | grep -o . | sort -u | tr -d '\n' || true; }

add() { # LINE OF THE TABLE
  table+=("$1")
  printf '%s\n' "$1"
}

# pair ROW PEER OURS CELL…: a cell is LABEL;LOADER ARGS;GOAL;GATE[;GOAL OF P99;GATE OF P99]
pair() {
  local row=$1 peer=$2 ours=$3 round side n
  shift 3
  local cells=("$@")
  rm -f "$dir"/figures.*
  marks=
  for ((round = 1; round <= ROUNDS; round++)); do
    local sides=("$peer" "$ours")
    if ((round % 2 == 0)); then sides=("$ours" "$peer"); fi
    for side in "${sides[@]}"; do
      local who=ours
      if [[ $side == "$peer" ]]; then who=peer; fi
      # Words of their own: `redis_waiting --appendonly yes`.
      read -ra words <<<"$side"
      "${words[@]}"
      for n in "${!cells[@]}"; do
        IFS=';' read -r label load _ <<<"${cells[n]}"
        read -ra words <<<"$load"
        say "  row $row, round $round, $side: $label"
        if ! run "${args[@]}" "${words[@]}"; then
          add "| $row | $label | failed | | | | | |"
          stop_all
          return 0
        fi
        printf '%s\n' "$ops" >>"$dir/figures.$n.$who.ops"
        printf '%s\n' "$p99" >>"$dir/figures.$n.$who.p99"
      done
      stop_all
    done
  done
  for n in "${!cells[@]}"; do
    IFS=';' read -r label load goal gate goal99 gate99 <<<"${cells[n]}"
    local figures=$dir/figures.$n ratios=() ratios99=() a b
    while read -r a b; do ratios+=("$(over "$a" "$b")"); done < <(paste "$figures.ours.ops" "$figures.peer.ops")
    while read -r a b; do ratios99+=("$(over "$a" "$b")"); done < <(paste "$figures.ours.p99" "$figures.peer.p99")
    local ratio ratio99 wanted judged
    ratio=$(lines "${ratios[@]}" | median)
    ratio99=$(lines "${ratios99[@]}" | median)
    wanted="${goal:-–} / ${gate:-–}"
    judged=$(if [[ -n $goal ]]; then verdict "$ratio" "$goal" "$gate"; fi)
    if [[ -n ${goal99:-} ]]; then
      wanted+=", p99 $goal99 / $gate99"
      judged+=" $(verdict "$ratio99" "$goal99" "$gate99")"
    fi
    add "| $row | $label | ${peer%% *} $(short "$(median <"$figures.peer.ops")") | $(short "$(median <"$figures.ours.ops")") \
| **$(printf '%.2f' "$ratio")** [$(lines "${ratios[@]}" | spread)]$(once) | $(printf '%.2f' "$ratio99") \
[$(lines "${ratios99[@]}" | spread)] | $wanted | $judged |"
  done
}

# Row 22: with idle connections and without, ours and redis. Ten seconds at least: a server may give the buffers
# of idle connections back only after a while.
idle() {
  if ((lasting < 10)); then lasting=10; fi
  local count=10000 round side with
  if ((${#many[@]} == 0)); then count=900; fi
  rm -f "$dir"/figures.*
  marks=
  for ((round = 1; round <= ROUNDS; round++)); do
    for side in redis 'node os'; do
      read -ra words <<<"$side"
      "${words[@]}"
      local name=${words[0]}
      say "  row 22, round $round, $side: without and with $count idle connections"
      if ! run "${args[@]}" --reads 50; then
        add "| 22 | $count idle connections | failed | | | | | |"
        stop_all
        return 0
      fi
      local without=$ops
      if ! run "${args[@]}" --reads 50 --no-load --idle "$count"; then
        add "| 22 | $count idle connections, $name | failed | | | | | |"
        stop_all
        return 0
      fi
      with=$ops
      over "$with" "$without" >>"$dir/figures.$name.ratio"
      printf '\n' >>"$dir/figures.$name.ratio"
      number bytes_each "$object" >>"$dir/figures.$name.bytes"
      printf '\n' >>"$dir/figures.$name.bytes"
      stop_all
    done
  done
  add "| 22 | $count idle connections: ops/s with / without | redis $(printf '%.2f' "$(median <"$dir/figures.redis.ratio")") \
| $(printf '%.2f' "$(median <"$dir/figures.node.ratio")") | [$(spread <"$dir/figures.node.ratio")]$(once) | – | 0.95 / 0.85 \
| $(verdict "$(median <"$dir/figures.node.ratio")" 0.95 0.85) |"
  add "| 22 | bytes of the server for each | redis $(printf '%.0f' "$(median <"$dir/figures.redis.bytes")") \
| $(printf '%.0f' "$(median <"$dir/figures.node.bytes")") | | – | <1331 / <8192 \
| $(verdict "$(median <"$dir/figures.node.bytes")" '<1331' '<8192') |"
  lasting=$SECONDS_EACH
}

needs() { # PROGRAM…: whether all are here
  local program
  for program in "$@"; do
    if ! command -v "$program" >/dev/null; then
      say "row $row skipped: $program is not installed"
      return 1
    fi
  done
}

put='--reads 0'
get='--reads 100'
small='--key-count 10000'
measure() { # ROW
  row=$1
  case $row in
    1) needs redis-server redis-cli || return 0
      pair 1 redis 'node os' \
      "put, one node, 50 connections;$put;1.2;1.0" "get, one node, 50 connections;$get;1.2;1.0" ;;
    2) needs redis-server redis-cli || return 0
      pair 2 redis 'node os' \
      "put, one node, 16 at once;$put -P 16;2.0;1.3" "get, one node, 16 at once;$get -P 16;2.0;1.3" ;;
    3) needs redis-server redis-cli taskset || return 0
      pin=(taskset -c 0)
      pair 3 redis 'node os' "put, 1 connection, 16 at once, one core;$put -c 1 -P 16;1.4;1.15"
      pin=() ;;
    4) needs redis-server redis-cli || return 0
      pair 4 redis 'node os' \
      "put, one node, 200 connections;$put -c 200;;;<0.65;<1.0" ;;
    5) needs redis-server redis-cli || return 0
      pair 5 redis_waiting 'coordinator_three os' \
      "put on 2 of 3, no fsync, 50 connections;$put;1.8;1.2;<0.6;<1.0" ;;
    6) needs redis-server redis-cli || return 0
      pair 6 redis_waiting 'coordinator_three os' \
      "put on 2 of 3, no fsync, 16 at once;$put -P 16;2.4;1.6" ;;
    7) needs etcd || return 0
      pair 7 etcd3 'coordinator_three always' \
      "durable put on 2 of 3, 64 clients;$put $small -c 64;6;4;<0.125;<0.25" ;;
    8) needs etcd || return 0
      pair 8 etcd3 'coordinator_three always' \
      "durable put on 2 of 3, 1 client;$put $small -c 1;2.5;1.7" \
      "durable put on 2 of 3, 256 clients;$put $small -c 256;6;4" ;;
    9) needs redis-server redis-cli || return 0
      pair 9 redis_waiting_always 'coordinator_three always' \
      "durable put on 2 of 3, 64 connections;$put -c 64;2;1.3" \
      "durable put on 2 of 3, 16 at once;$put -P 16;2.5;1.6" ;;
    10) needs etcd || return 0
      pair 10 etcd3 'coordinator_three always' \
      "quorum get R=2, 64 clients;$get $small -c 64;10;6" ;;
    11) needs redis-server redis-cli || return 0
      pair 11 redis_always 'node always' \
      "durable put, one node, 50 connections;$put;1.15;1.0" "durable put, one node, 16 at once;$put -P 16;2.2;1.5" ;;
    12) pair 12 'straight_one os' 'behind_one os' \
      "put through the coordinator / straight, N=1;$put;0.75;0.6" \
      "put through the coordinator / straight, N=1, 16 at once;$put -P 16;0.65;0.5" ;;
    13) pair 13 'coordinator_one os' 'coordinator_three os' \
      "put with N=3 W=2 / N=1;$put;0.95;0.85" "put with N=3 W=2 / N=1, 16 at once;$put -P 16;0.85;0.7" ;;
    22) needs redis-server redis-cli || return 0
      idle ;;
    5c) needs redis-server redis-cli || return 0
      pair 5c redis_waiting 'client_three os' "put on 2 of 3, no fsync, 50 callers of the client;$put;1.8;1.2;<0.6;<1.0" ;;
    7c) needs etcd || return 0
      pair 7c etcd3 'client_three always' \
      "durable put on 2 of 3, 64 callers of the client;$put $small -c 64;6;4;<0.125;<0.25" \
      "durable put on 2 of 3, 256 callers of the client;$put $small -c 256;6;4" ;;
    9c) needs redis-server redis-cli || return 0
      pair 9c redis_waiting_always 'client_three always' \
      "durable put on 2 of 3, 64 callers of the client;$put -c 64;2;1.3" ;;
    10c) needs etcd || return 0
      pair 10c etcd3 'client_three always' "quorum get R=2, 64 callers of the client;$get $small -c 64;10;6" ;;
    12c) pair 12c 'straight_one os' 'client_one os' \
      "put by the client / straight, N=1;$put;0.95;0.6" "get by the client / straight, N=1;$get;0.95;0.6" ;;
    memcached) needs memcached || return 0
      pair memcached memcached1 'node os' \
      "put, one node, 50 connections;$put;1;1" "get, one node, 50 connections;$get;1;1" ;;
    *) say "error: there is no row $row; rows: 1 to 13, 22, 5c 7c 9c 10c 12c, memcached"; exit 2 ;;
  esac
}

mkdir -p "$dir"/run
add "| row | what | peer ops/s | ours ops/s | ratio, median [range] | p99 ratio | goal / gate | reached |"
add "|---|---|---|---|---|---|---|---|"
for row in $ROWS; do
  measure "$row"
done
printf '\n%s rounds of %s s, %s cores; * others used more than %s cores in some run; ! some requests failed.\n\n' \
  "$ROUNDS" "$SECONDS_EACH" "$(nproc)" "$FOREIGN_MAX"
printf '%s\n' "${table[@]}"
