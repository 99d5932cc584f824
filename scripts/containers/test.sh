#!/usr/bin/env bash
# Runs tests/compose. Without a container engine, on Debian and as root, it starts one of its own, with stand-ins for
# the images, below NIGHTSHIFT_ENGINE_DIR (default: /var/tmp/nightshift-engine), and stops it in the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! docker info > /dev/null 2>&1; then
  box=${NIGHTSHIFT_ENGINE_DIR:-/var/tmp/nightshift-engine}
  running=false
  [ -e "$box/env.sh" ] && (. "$box/env.sh" && docker info > /dev/null 2>&1) && running=true
  scripts/containers/engine.sh start "$box"
  $running || trap 'scripts/containers/engine.sh stop "$box"' EXIT
  scripts/containers/images.sh "$box"
  # shellcheck source=/dev/null
  . "$box/env.sh"
fi
.venv/bin/python -m pytest tests/compose "$@"
