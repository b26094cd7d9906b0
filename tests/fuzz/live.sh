#!/usr/bin/env bash
# live.sh PROGRAM CORPUS MAX_LEN SECONDS RUNS: search with libFuzzer, from CORPUS, for RUNS inputs or
# SECONDS, whichever comes first; say every half minute how far it is. RUNS 0: for SECONDS, and also
# from what earlier searches of this build directory have found.
#
# What fails is kept, with the command that repeats it. The time is how long to search, not a limit.
# With RUNS the search follows from its seed, DAX_TEST_SEED (default 1; 0: libFuzzer draws one and
# prints it): a run of ./test that finds something new is one of changed code, and a slow machine sees
# the beginning of what a fast one sees. The long ones draw.
set -euo pipefail
program=$1 corpus=$2 max_len=$3 seconds=$4 runs=$5
name=$(basename "$program" _live)
found=fuzz-found/$name findings=fuzz-findings
log=$found.log
[ "$runs" -eq 0 ] || rm -rf "$found"
mkdir -p "$found" "$findings"

# The engine reserves address space that it does not use: no limit on that. A leak check per input.
seed=${DAX_TEST_SEED-1}
echo "$name: seed $seed"
options=(-seed="$seed" -max_len="$max_len" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=4096
    -malloc_limit_mb=512 -print_final_stats=1 -artifact_prefix="$findings/$name-")
[ "$runs" -eq 0 ] || options+=(-runs="$runs")
# libFuzzer leaves without cleaning up when it has found something.
DAX_TEST_DIR=$(mktemp -d "${DAX_TEST_DIR:-/dev/shm}/daxlite-live-XXXXXX")
export DAX_TEST_DIR
"$program" "${options[@]}" "$found" "$corpus" >"$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$DAX_TEST_DIR"' EXIT

for ((waited = 0; waited < seconds + 600; waited++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 1
    ((waited % 30 != 29)) || echo "$name: $((waited + 1)) of $seconds s: $(grep -a 'cov:' "$log" | tail -n 1)"
done
status=0
wait "$pid" || status=$?

stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
if [ "$status" -eq 0 ]; then
    echo "figure: $name inputs executed: $(stat number_of_executed_units)"
    echo "figure: $name edges of the code reached: $(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
else
    grep -av '^#[0-9]' "$log" | head -n 60
    echo "$name: $(grep -a 'Test unit written' "$log" || true)"
    echo "Repeat: DAX_FUZZ_TRACE=1 ${program%_live} FILE    (from $PWD)"
fi
exit "$status"
