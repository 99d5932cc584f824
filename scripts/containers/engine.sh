#!/usr/bin/env bash
# A container engine of its own, for a Debian machine that has none: Docker and Compose of Debian sid, unpacked below one
# folder, with its own data and socket. Only runc, debootstrap and iptables are installed; the firewall is left alone.
#
#   scripts/containers/engine.sh start FOLDER    FOLDER: some 10 GB, kept between runs; writes FOLDER/env.sh
#   scripts/containers/engine.sh stop FOLDER
#
# Needs root and apt. Containers have no network of their own to the outside: builds use the host's.
set -euo pipefail

action=${1:?start or stop} box=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
packages=(docker-cli docker.io containerd docker-compose docker-buildx tini-static)

say() { printf '%s\n' "$*" >&2; }

unpack_packages() {
  [ -e "$box/unpacked/.complete" ] && return
  say "Downloading Docker and Compose."
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep --max-count 1 '/debian$')
  mkdir -p "$box/apt/lists/partial" "$box/apt/archives" "$box/unpacked"
  echo "deb [check-valid-until=no] $mirror sid main" > "$box/apt/sources.list"
  local apt=(apt-get -q=2 -o "Dir::Etc::SourceList=$box/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$box/apt/lists" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  (cd "$box/apt/archives" && "${apt[@]}" download "${packages[@]}")
  for package in "$box"/apt/archives/*.deb; do dpkg -x "$package" "$box/unpacked"; done
  # Containers find each other's names by iptables rules in their own network namespaces.
  apt-get install -q=2 --yes --no-install-recommends runc debootstrap iptables > /dev/null
  mkdir -p "$box/config/cli-plugins"
  ln -sf "$box"/unpacked/usr/libexec/docker/cli-plugins/docker-{compose,buildx} "$box/config/cli-plugins/"
  touch "$box/unpacked/.complete"
}

write_environment() {
  cat > "$box/env.sh" << END
export PATH=$box/unpacked/usr/bin:$box/unpacked/usr/sbin:\$PATH
export DOCKER_HOST=unix://$box/docker.sock DOCKER_CONFIG=$box/config
END
  # shellcheck source=/dev/null
  . "$box/env.sh"
}

start_daemon() {
  docker version > /dev/null 2>&1 && return
  say "Starting the engine."
  # More open files than a machine allows, as Docker's default asks for, and no container starts.
  ulimit -n "$(ulimit -Hn)"
  local files=20000
  setsid nohup dockerd --data-root "$box/data" --exec-root "$box/run" --pidfile "$box/dockerd.pid" --host "$DOCKER_HOST" \
    --iptables=false --ip6tables=false --ip-forward=false --bridge=none --default-ulimit "nofile=$files:$files" \
    --userland-proxy=true --userland-proxy-path "$box/unpacked/usr/sbin/docker-proxy" \
    --init-path "$box/unpacked/usr/bin/tini-static" > "$box/dockerd.log" 2>&1 < /dev/null &
  for _ in $(seq 60); do
    docker version > /dev/null 2>&1 && return
    sleep 1
  done
  say "The engine did not start; see $box/dockerd.log"
  tail -n 20 "$box/dockerd.log" >&2
  exit 1
}

case $action in
  start)
    unpack_packages
    write_environment
    start_daemon
    ;;
  stop)
    [ -e "$box/dockerd.pid" ] && kill "$(cat "$box/dockerd.pid")"
    ;;
  *)
    say "start or stop, not $action"
    exit 64
    ;;
esac
