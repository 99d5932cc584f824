#!/usr/bin/env bash
# Builds the virtual environment from the hashed lock. Called by make: bootstrap.sh PYTHON VENV UV_VERSION LOCK
set -euo pipefail
python=$1 venv=$2 uv_version=$3 lock=$4
least_free_mib=4096

fail() {
    echo "nightshift: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "$python is not installed: install Python 3.11 or newer, or name one with PYTHON=/path/to/python3.11 make."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -c 'import platform; print(platform.python_version())'), and 3.11 or newer is needed: name one with PYTHON=python3.11 make."
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python lacks venv or ensurepip: install them (on Debian and Ubuntu: apt install python3-venv) and try again."
free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge "$least_free_mib" ] ||
    fail "$(pwd) has $free_mib MiB of free disk, and the environment needs $least_free_mib: free some and try again."

if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Creating $venv with $("$python" --version)."
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    echo "Installing uv $uv_version."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version" ||
        fail "uv $uv_version could not be installed: is the package index reachable (see the lines above)?"
fi
echo "Installing the locked packages; this takes a minute or two the first time."
export VIRTUAL_ENV="$PWD/$venv"
# On a terminal uv shows how far it is; in a log only its totals are worth reading.
if [ -t 2 ]; then packages=cat; else packages="grep -vE ^.[-+~]."; fi
"$venv/bin/uv" pip sync --require-hashes "$lock" 2> >($packages >&2) ||
    fail "the locked packages could not be installed: see the lines above, then try again."
"$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation -e . ||
    fail "the project itself could not be installed: see the lines above."
scripts/build_runtimes.sh "$venv/bin/uv" "$venv/bin/python" "${NIGHTSHIFT_RUNTIMES_DIR:-.runtimes}" ||
    fail "the runtimes that models are verified in could not be built: see the lines above."
