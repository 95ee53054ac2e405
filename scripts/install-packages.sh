#!/bin/sh
# Installs the named Debian packages, quietly, only what is missing. Says plainly what to do when it cannot.
set -eu
missing=""
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null; then sudo=sudo; else
    echo "install these packages as root first:$missing" >&2
    exit 1
fi
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words on purpose
if ! { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"
echo "installed:$missing"
