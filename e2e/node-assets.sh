#!/usr/bin/env bash
# Installs what real nodes of the tests need on Debian and Ubuntu, as root. Does nothing where all is there.
set -euo pipefail
packages=(containerd runc containernetworking-plugins busybox-static iproute2 git zstd btrfs-progs mount)
missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=none
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "node-assets: all packages are there"
    exit
fi
if [ "$(id -u)" != 0 ]; then
    echo "node-assets: run as root to install ${missing[*]}" >&2
    exit 1
fi
# The nodes start their own containerd. Without this, the package would start one for the machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
# Package lists may be absent or old.
install || { apt-get update -qq && install; }
