#!/usr/bin/env bash
# The shared libraries that Qt and OpenGL need on Linux: installed where apt-get may be run as root, otherwise named.
set -euo pipefail
[ "$(uname -s)" = Linux ] || exit 0

packages=(libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libdbus-1-3 libxcb-cursor0 libxcb-icccm4 libxcb-image0
  libxcb-keysyms1 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0)
[ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || packages+=(xvfb xauth)

if command -v dpkg-query >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && exit 0
  if [ "$(id -u)" -eq 0 ] && [ -z "${NO_APT:-}" ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    exit 0
  fi
  echo "The window needs system libraries that are missing; install them with: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
ldconfig -p 2>/dev/null | grep -q 'libxcb-cursor.so' && exit 0
echo "The window needs Qt's and OpenGL's system libraries; install your system's packages for: ${packages[*]}" >&2
exit 1
