#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Branch coverage by the unit tests and the kept inputs of the fuzzers: a table of folders, the files that are below their folder's
# bound, and a failure when libs/ or gate's session, route, conn (its limits) or attestation code is below its own.
# The scenario tests, which run gate too, are not counted: what hands a gate over to another is theirs, so it has no bound here.
#     tools/dev/coverage.sh [LIBS [GATE]]      in percent, 90; COVERAGE_BUILD=DIR takes another build folder
set -u
cd "$(dirname "$0")/../.." || exit 1
libs_bound=${1:-90}
gate_bound=${2:-90}
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
gcovr --csv --root . --object-directory "$build" --exclude '.*_(test|fuzz)\.[ch]' --exclude '.*/test\.h' --filter libs/ \
    --filter gateway/gate/ "$build" >"$build/files.csv" 2>"$build/gcovr.log" || { cat "$build/gcovr.log"; exit 1; }
# Columns of gcovr: 1 file, 5 branches, 6 branches taken.
awk -F, -v libs="$libs_bound" -v gate="$gate_bound" '
    function bound_of(folder) {
        return folder ~ /^libs/ ? libs : folder ~ /^gateway\/gate\/(session|route|conn|attest)$/ ? gate : 0
    }
    function line(name, all, taken, note) {
        return sprintf("%-44s %8d %6d  %5.1f %%  %s", name, all, taken, all == 0 ? 100 : 100 * taken / all, note)
    }
    NR > 1 {
        folder = $1
        sub(/\/[^\/]*$/, "", folder)
        total[folder] += $5
        taken[folder] += $6
        if ($1 ~ /^libs/) {
            total["libs"] += $5
            taken["libs"] += $6
        }
        if ($5 > 0 && 100 * $6 < bound_of(folder) * $5) {
            low = low sprintf("%s %d %d\n", $1, $5, $6)
        }
    }
    END {
        printf "%-44s %8s %6s\n", "folder", "branches", "taken"
        for (folder in total) {
            # A part of libs/ may be below, libs/ as a whole may not.
            bound = folder ~ /^libs\// ? 0 : bound_of(folder)
            is_low = 100 * taken[folder] < bound * total[folder]
            bad += is_low
            note = is_low ? "BELOW " bound : bound > 0 ? "bound " bound : ""
            print line(folder, total[folder], taken[folder], note) | "sort"
        }
        close("sort")
        print "files below the bound of their folder:"
        count = split(low, lows, "\n")
        for (i = 1; i < count; i++) {
            split(lows[i], f, " ")
            print line(f[1], f[2], f[3], "")
        }
        exit bad > 0 || total["libs"] == 0 || total["gateway/gate/session"] == 0
    }' "$build/files.csv" || { echo "below a bound"; failed=1; }
exit $failed
