#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run fuzz targets, two at a time, for so many seconds each: tools/dev/fuzz.sh [SECONDS [TARGET…]]   (default: 60, all)
# Seeds: tests/fuzz/NAME, words: tests/fuzz/NAME.dict. Corpora grow in build/fuzz/corpus/NAME; what crashes lies in
# build/fuzz/crashes. FUZZ_BUILD=DIR takes the targets from another build, FUZZ_JOBS=N runs so many at a time.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${FUZZ_BUILD:-build/fuzz}

# one NAME SECONDS: run a target; one line with what came of it.
one() {
    log=$build/$1.log
    corpus=$build/corpus/$1
    mkdir -p "$corpus"
    set -- "$1" "$2" "$corpus"
    [ -d "tests/fuzz/$1" ] && set -- "$@" "tests/fuzz/$1"
    [ -f "tests/fuzz/$1.dict" ] && set -- "$@" "-dict=tests/fuzz/$1.dict"
    name=$1
    seconds=$2
    shift 2
    status=0
    "$build/fuzz/$name" "$@" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" >"$log" 2>&1 || status=1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1)
    printf '%-4s %-20s %10s runs %7s/s  %s  %5s inputs\n' "$([ $status = 0 ] && echo ok || echo FAIL)" "$name" \
        "${runs:-0}" "$((${runs:-0} / seconds))" "${edges:-cov: 0}" "$(find "$corpus" -type f | wc -l)"
    [ $status = 0 ] || tail -n 40 "$log"
    return $status
}

if [ "${1:-}" = --one ]; then
    one "$2" "$3"
    exit $?
fi

seconds=${1:-60}
[ $# -gt 0 ] && shift
if [ "$build" = build/fuzz ]; then
    cmake --preset fuzz >/dev/null && cmake --build --preset fuzz >/dev/null || exit 1
fi
mkdir -p "$build/crashes"
# shellcheck disable=SC2046 # a list of words
[ $# -gt 0 ] || set -- $(cd "$build/fuzz" && echo *_fuzz)
printf '%s\n' "$@" | xargs -P "${FUZZ_JOBS:-2}" -I TARGET "$0" --one TARGET "$seconds"
