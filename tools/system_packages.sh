#!/bin/bash
# Installs what the build and the tests need and Debian has, when something is missing and we are root there; says so otherwise.
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
need chromium chromium # the chat page; its own test browser, some 100 MB: only CI and `make` take it
python=${PYTHON:-python3}
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sysconfig; os.stat(sysconfig.get_paths()["include"] + "/Python.h")' 2>/dev/null || missing+=(python3-dev)

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
