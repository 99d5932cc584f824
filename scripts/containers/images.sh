#!/usr/bin/env bash
# Builds stand-ins for the images that the Dockerfile and docker-compose.yaml name, for a machine that reaches Debian's
# packages and PyPI and no container registry. PostgreSQL and Redis are Debian's; SeaweedFS answers for MinIO.
#
#   scripts/containers/images.sh FOLDER    FOLDER: that of engine.sh, whose engine runs
#
# What has not changed comes from the engine's cache. Needs root, debootstrap and the project's virtual environment (for SeaweedFS's binary).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd) box=${1:?the folder of engine.sh}
# shellcheck source=/dev/null
. "$box/env.sh"

named() { # the images of that name in the Dockerfile and the compose file
  grep --no-filename --extended-regexp '^FROM|^ +image:' "$root/Dockerfile" "$root/docker-compose.yaml" |
    grep --only-matching --extended-regexp "[a-z0-9./]*\b$1:[A-Za-z0-9._-]+" | sort -u
}
exists() { docker image inspect "$1" > /dev/null 2>&1; }

import_debian() {
  exists "localhost/debian:$1" && return
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep --max-count 1 '/debian$')
  rm -rf "$box/$1" && debootstrap --variant=minbase "$1" "$box/$1" "$mirror" > "$box/debootstrap-$1.log"
  tar -C "$box/$1" -c . | docker import - "localhost/debian:$1" > /dev/null
  rm -rf "$box/${1:?}"
}

build() {
  local context=$box/images/$1
  for tag in $(named "$2"); do
    echo "Building a stand-in for $tag." >&2
    docker build --quiet --network host --tag "$tag" "$context" > /dev/null
  done
}

import_debian bookworm
import_debian sid
rm -rf "$box/images" && cp -r "$here/images" "$box/images"
cp -L /etc/ssl/certs/ca-certificates.crt "$box/images/python/host-ca.crt"
cp "$root/.venv/bin/weed" "$box/images/minio/weed"
build python python
build postgres postgres
build redis redis
build minio minio/minio
