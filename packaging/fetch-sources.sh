#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The Sallyport Authors
#
# Bring the third-party source packages of packaging/sources.list into DIR (default build/thirdparty):
# DIR/<folder> is the unpacked source, or the part of it that the list names; DIR/VERSIONS says which
# exact versions were used. They come from Debian trixie and are verified by apt's signatures. apt gets
# a sources list, lists and cache of its own, so the machine's apt is neither read for packages nor
# changed, and root is not needed.
# What is there already in the pinned minor release stays; nothing is downloaded then.
#
# usage: packaging/fetch-sources.sh [DIR]
set -eu

suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
here=$(cd "$(dirname "$0")" && pwd)
list=$here/sources.list
dir=${1:-$here/../build/thirdparty}

say() { echo "fetch-sources: $*"; }
die() { echo "fetch-sources: $*" >&2; exit 1; }

# The upstream part of a Debian version: 3.6.4-2 -> 3.6.4, 2.2.1+dfsg1-1 -> 2.2.1
upstream() { printf '%s\n' "$1" | sed 's/^[0-9]*://; s/-[^-]*$//; s/[+~].*$//'; }

in_release() { # VERSION MINOR
    case $(upstream "$1") in
    "$2" | "$2".*) return 0 ;;
    *) return 1 ;;
    esac
}

# NAME MINOR FOLDER: DIR/FOLDER is complete and of the pinned release.
present() {
    [ -f "$dir/VERSIONS" ] && [ -d "$dir/$3" ] || return 1
    version=$(awk -v name="$1" '$1 == name { print $2 }' "$dir/VERSIONS")
    [ -n "$version" ] && in_release "$version" "$2"
}

# NAME:MINOR:FOLDER:PART, a line each
wanted() {
    sed 's/#.*//' "$list" |
        awk 'NF >= 2 { print $1 ":" $2 ":" (NF > 2 ? $3 : $1) ":" $4 }'
}

# The Debian archives that this machine's apt uses, so that a local mirror or proxy is respected.
mirrors() { apt-get indextargets --format '$(SITE)' 2>/dev/null | sed 's|/*$||' | sort -u; }

apt_setup() {
    archive=$(mirrors | grep '/debian$' | head -n 1 || true)
    security=$(mirrors | grep '/debian-security$' | head -n 1 || true)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/download"
    echo "deb-src [signed-by=$keyring] ${archive:-http://deb.debian.org/debian} $suite main" \
        >"$work/sources.list"
    if [ -n "$security" ]; then
        echo "deb-src [signed-by=$keyring] $security $suite-security main" >>"$work/sources.list"
    fi
    cat >"$work/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "$work/none";
Dir::Etc::Preferences "$work/none";
Dir::Etc::PreferencesParts "$work/none";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
    say "reading Debian $suite's source index from ${archive:-http://deb.debian.org/debian}"
    apt_quiet apt-get -c "$work/apt.conf" update -qq --error-on=any
}

# Run a command, show what it said only when it failed.
apt_quiet() {
    "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die "failed: $*"
    }
}

newest() { # NAME MINOR: newest version in the pinned release
    best=
    for version in $(apt-cache -c "$work/apt.conf" showsrc --only-source "$1" 2>/dev/null |
        sed -n 's/^Version: //p' | sort -u); do
        if in_release "$version" "$2" &&
            { [ -z "$best" ] || dpkg --compare-versions "$version" gt "$best"; }; then
            best=$version
        fi
    done
    printf '%s\n' "$best"
}

fetch() { # NAME MINOR FOLDER [PART]
    part=${4:-}
    version=$(newest "$1" "$2")
    [ -n "$version" ] || die "Debian $suite has no $1 $2.x; packaging/sources.list pins that release"
    rm -rf "$work/download"
    mkdir -p "$work/download"
    say "downloading $1 $version (source, checked by apt)"
    (cd "$work/download" && apt_quiet apt-get -c "$work/apt.conf" source -qq --only-source \
        --download-only "$1=$version")
    apt_quiet dpkg-source --no-copy -x "$work"/download/*.dsc "$work/download/tree"
    [ -d "$work/download/tree/$part" ] || die "$1 $version has no $part"
    rm -rf "${dir:?}/$3"
    mv "$work/download/tree${part:+/$part}" "$dir/$3"
    record "$1" "$version"
    say "$1 $version is in $dir/$3"
}

record() { # NAME VERSION, written last: it marks the folder as complete
    touch "$dir/VERSIONS"
    { awk -v name="$1" '$1 != name' "$dir/VERSIONS"; echo "$1 $2"; } | sort >"$dir/VERSIONS.new"
    mv "$dir/VERSIONS.new" "$dir/VERSIONS"
}

[ $# -le 1 ] || die "usage: packaging/fetch-sources.sh [DIR]"
[ -f "$list" ] || die "$list is missing"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

missing=$(wanted | while IFS=: read -r name minor folder part; do
    present "$name" "$minor" "$folder" || echo "$name:$minor:$folder:$part"
done)
if [ -z "$missing" ]; then
    say "already there: $(tr '\n' ',' <"$dir/VERSIONS" | sed 's/,$//; s/,/, /g')"
    exit 0
fi

for tool in apt-get dpkg-source; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install dpkg-dev"
done
[ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"

work=$dir/.apt
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
apt_setup
for entry in $missing; do
    # shellcheck disable=SC2046 # three or four words, none of them with blanks
    fetch $(printf '%s\n' "$entry" | tr ':' ' ')
done
