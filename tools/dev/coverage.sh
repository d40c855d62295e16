#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Branch coverage by the unit tests and the kept inputs of the fuzzers: a table, and a failure below the bound (default 90 %) for libs/
# or for gate's session, route, records, attest, fuse and limits code (gate/conn, gate.c and worker.c need sockets and threads; the
# scenario tests run them).
#     tools/dev/coverage.sh [BOUND]      COVERAGE_BUILD=DIR takes another build folder
set -u
cd "$(dirname "$0")/../.." || exit 1
bound=${1:-90}
build=${COVERAGE_BUILD:-build/coverage}
if [ "$build" = build/coverage ]; then
    cmake --preset coverage >/dev/null || exit 1
fi
cmake --build "$build" --target libs/all gateway/gate/all >"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log"; exit 1; }
find "$build" -name '*.gcda' -delete
failed=0
for part in libs gateway/gate; do
    ctest --test-dir "$build/$part" -j 2 >"$build/ctest.log" 2>&1 || { tail -n 20 "$build/ctest.log"; failed=1; }
done
# report NAME FILTER…: one table and its total against the bound.
report() {
    name=$1
    shift
    echo "== $name"
    gcovr --branches --root . --object-directory "$build" --exclude '.*_(test|fuzz)\.[ch]' --exclude '.*/test\.h' \
        --fail-under-branch "$bound" "$@" "$build" | grep -v '^-\{20\}\|^Directory\|GCC Code Coverage' | cut -c 1-110
}
run() {
    report "$@" >"$build/report.txt" 2>&1
    cat "$build/report.txt"
    awk -v bound="$bound" '$1 == "TOTAL" { sub("%", "", $4); if ($4 + 0 < bound) exit 1; found = 1 } END { if (!found) exit 1 }' \
        "$build/report.txt" || { echo "below $bound %: $1"; failed=1; }
}
run "libs" --filter libs/
run "gate: session, route, records, limits" --filter gateway/gate/ --exclude gateway/gate/conn/ \
    --exclude gateway/gate/gate.c --exclude gateway/gate/worker.c
exit $failed
