#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Form, layers, the documentation's paths, static analysis. `lint.sh --quick` leaves clang-tidy out.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0
sources=$(git ls-files -co --exclude-standard '*.c' '*.h')

# shellcheck disable=SC2086 # lists of words
clang-format --dry-run --Werror $sources || failed=1
/usr/bin/python3 tools/dev/check_layers.py || failed=1
/usr/bin/python3 tools/dev/check_docs.py || failed=1
# shellcheck disable=SC2046
shellcheck -S warning $(git ls-files -co --exclude-standard '*.sh') demo check .ci/run || failed=1
for page in docs/man/*; do
    case "$page" in *.[1-8]) mandoc -T lint -W warning "$page" || failed=1 ;; esac
done

if [ "${1:-}" != "--quick" ]; then
    cmake --preset lint >/dev/null || exit 1
    # shellcheck disable=SC2046
    printf '%s\n' $(git ls-files 'libs/*.c' 'gateway/*.c' 'tools/*.c' 'device/app/*.c') |
        xargs -P 2 -n 4 clang-tidy -p build/lint --quiet 2>/dev/null || failed=1
fi
exit $failed
