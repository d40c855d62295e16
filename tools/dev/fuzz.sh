#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run every fuzz target for so many seconds each (default 60): tools/dev/fuzz.sh [SECONDS]
# Corpora grow in build/fuzz/corpus/NAME; what crashes lies in build/fuzz/crashes.
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-60}
failed=0
cmake --preset fuzz >/dev/null && cmake --build --preset fuzz >/dev/null || exit 1
mkdir -p build/fuzz/crashes
for target in build/fuzz/fuzz/*_fuzz; do
    name=$(basename "$target")
    corpus=build/fuzz/corpus/$name
    mkdir -p "$corpus"
    seeds=tests/fuzz/$name
    [ -d "$seeds" ] || seeds=''
    # shellcheck disable=SC2086
    if "$target" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix=build/fuzz/crashes/ "$corpus" $seeds >build/fuzz/"$name".log 2>&1; then
        echo "ok   $name: $(grep -c . build/fuzz/"$name".log) lines of log, $(find "$corpus" -type f | wc -l) inputs kept"
    else
        echo "FAIL $name: see build/fuzz/$name.log"
        failed=1
    fi
done
exit $failed
