#!/usr/bin/env bash
# Run a command with a display: the one there is, or a virtual one.
set -euo pipefail
if [ "$(uname -s)" != Linux ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  exec "$@"
fi
echo "No display here: using a virtual one (Xvfb)."
export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1
exec xvfb-run -a -s "-screen 0 1920x1080x24" "$@"
