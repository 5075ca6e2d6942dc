#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Shared libraries that the bpy and OpenCV wheels expect on Linux. On Debian and Ubuntu as root they are installed; elsewhere they are named.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
PATH="$PATH:/usr/sbin:/sbin" # where ldconfig is, also for users who are not root
missing=""
for pair in libEGL.so.1:libegl1 libGL.so.1:libgl1 libxkbcommon.so.0:libxkbcommon0 libSM.so.6:libsm6 libICE.so.6:libice6 \
            libXi.so.6:libxi6 libXxf86vm.so.1:libxxf86vm1 libXfixes.so.3:libxfixes3 libXrender.so.1:libxrender1 libgomp.so.1:libgomp1; do
    ldconfig -p 2>/dev/null | grep -q "${pair%%:*}" || missing="$missing ${pair##*:}"
done
[ -d /usr/lib/x86_64-linux-gnu/dri ] || [ -d /usr/lib64/dri ] || [ -d /usr/lib/aarch64-linux-gnu/dri ] || missing="$missing libgl1-mesa-dri"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of names
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null </dev/null && exit 0
fi
echo "Blender's module may need these system libraries:$missing (Debian names). Install them if the next steps fail." >&2
