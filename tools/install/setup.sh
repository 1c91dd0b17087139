#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian or Ubuntu packages that are missing: `setup.sh build` for building and running, `setup.sh check` for
# `make check` too, `setup.sh lab` for the virtual machine, without which its rows are skipped. Does nothing when all are there. As root, or through sudo, it calls apt-get; otherwise it prints the one
# command to type and fails. On another system it says what is needed and leaves the rest to the build.
set -eu

packages="g++ libsqlite3-dev zlib1g-dev libpci-dev libncurses-dev nlohmann-json3-dev python3-kconfiglib ca-certificates curl"
case "${1:-build}" in
  build) ;;
  check) packages="$packages git pkg-config libgtest-dev libgmock-dev clang-19 clang-format-14 libclang-rt-19-dev" ;;
  lab) # It boots a kernel that is installed, and builds a module for it. Where none is, nothing else boots from one either.
       packages="qemu-system-x86 busybox-static"
       ls /boot/vmlinuz-* >/dev/null 2>&1 || packages="$packages linux-image-amd64 linux-headers-amd64" ;;
  *) echo "usage: setup.sh build | check | lab" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: not a Debian or Ubuntu system; these packages, or what corresponds to them, are needed: $packages" >&2
  exit 0
fi

# shellcheck disable=SC2086  # the list is words
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p' || true)
missing=
for p in $packages; do
  case "
$installed
" in *"
$p
"*) ;; *) missing="$missing $p" ;; esac
done
[ -n "$missing" ] || exit 0

command="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
  sudo=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  sudo=sudo
else
  echo "setup: packages are missing, and installing them needs root. Type this, then try again:" >&2
  echo "  su -c 'apt-get update && $command'" >&2
  exit 1
fi
echo "setup: installing$missing" >&2

# shellcheck disable=SC2086
{ $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive $command; } >&2 </dev/null
