#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Branch coverage by the unit tests and the kept inputs of the fuzzers: tables, and a failure when libs/ or gate's session, route and
# attestation code (its limits among them) is below its bound. The scenario tests, which run gate too, are not counted.
#     tools/dev/coverage.sh [LIBS [GATE]]      in percent; COVERAGE_BUILD=DIR takes another build folder
# Both are to be 90; the second is what is reached today and only goes up (docs/testing.md).
set -u
cd "$(dirname "$0")/../.." || exit 1
libs_bound=${1:-90}
gate_bound=${2:-80}
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
# run NAME BOUND FILTER…: one table, its total against the bound.
run() {
    name=$1
    bound=$2
    shift 2
    echo "== $name"
    gcovr --branches --root . --object-directory "$build" --exclude '.*_(test|fuzz)\.[ch]' --exclude '.*/test\.h' "$@" "$build" \
        >"$build/report.txt" 2>&1
    grep -v '^-\{20\}\|^Directory\|GCC Code Coverage' "$build/report.txt" | cut -c 1-110
    awk -v bound="$bound" '$1 == "TOTAL" { sub("%", "", $4); good = $4 + 0 >= bound } END { exit !good }' "$build/report.txt" ||
        { echo "below $bound %: $name"; failed=1; }
}
run "libs" "$libs_bound" --filter libs/
run "gate: session, route, attestation" "$gate_bound" --filter gateway/gate/session/ --filter gateway/gate/route/ \
    --filter gateway/gate/attest/
exit $failed
