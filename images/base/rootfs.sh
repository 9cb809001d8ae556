#!/usr/bin/env bash
# Write a trimmed Debian trixie root file system as a tar to stdout. Usage: rootfs.sh MIRROR [PACKAGE...] (root; needs debootstrap).
# Stands in for debian:trixie-slim where no container registry can be reached.
set -Eeuo pipefail
mirror=${1:?usage: rootfs.sh MIRROR [PACKAGE...]}
shift
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

packages=$(IFS=,; echo "ca-certificates${*:+,$*}")
debootstrap --variant=minbase --include="$packages" trixie "$work/root" "$mirror" >&2

# The image ships no index and no documentation: apt and people fetch them when they need them.
rm -rf -- "$work"/root/var/lib/apt/lists/* "$work"/root/var/cache/apt/*.bin "$work"/root/var/cache/apt/archives/*.deb \
  "$work"/root/usr/share/{doc,man,info,locale} "$work"/root/var/log/*
cat >"$work/root/etc/dpkg/dpkg.cfg.d/slim" <<'CONF'
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
CONF
printf '#!/bin/sh\nexit 101\n' >"$work/root/usr/sbin/policy-rc.d"
chmod 0755 "$work/root/usr/sbin/policy-rc.d"
tar -C "$work/root" --numeric-owner --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -c .
