#!/bin/bash
# Installs what the build and the tests need and Debian has, when something is missing and we are
# root there; says so otherwise.
# `browser` as argument: Chromium too.
set -eu

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

need g++ g++
need make make
need git git
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need qemu-aarch64 qemu-user
need qemu-x86_64 qemu-user
need qemu-hexagon qemu-user
need javac default-jdk-headless # examples/android
if [ "${1:-}" = browser ]; then # the chat page's tests; some 300 MB, so only for who asks for it
    need chromium chromium
    ls /usr/share/fonts/*/* >/dev/null 2>&1 || missing+=(fonts-dejavu-core)
fi
python=${PYTHON:-python3}
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
header='import os, sysconfig; os.stat(sysconfig.get_paths()["include"] + "/Python.h")'
"$python" -c "$header" 2>/dev/null || missing+=(python3-dev)

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
else
    echo "missing system packages: ${missing[*]} (tests that need them are skipped)" >&2
fi
