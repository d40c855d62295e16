#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make a fresh Debian 12 machine ready: install the packages of the lists named, fetch the device's sources.
#
#     packaging/setup.sh build demo check     (any of them; the names of packaging/apt/*.txt)
#
# Installs packages from Debian only, says which, and asks nothing. Does nothing where all is there.
set -eu
cd "$(dirname "$0")/.."

wanted=$(for list in "$@"; do sed 's/#.*//' "packaging/apt/$list.txt"; done | sort -u)
missing=$(for package in $wanted; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
done)

if [ -n "$missing" ]; then
    as_root=''
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "setup: not root and no sudo; as root: apt-get install" $missing >&2; exit 1; }
        as_root='sudo'
    fi
    echo "setup: installing from Debian:" $missing
    log=$(mktemp)
    # shellcheck disable=SC2086 # lists of words
    if ! { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update &&
           $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
               install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        echo "setup: installing failed" >&2
        exit 1
    fi
    rm -f "$log"
fi

packaging/fetch-sources.sh
