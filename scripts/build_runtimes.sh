#!/usr/bin/env bash
# Builds an environment with one onnxruntime, numpy and nothing of ours for each hashed lock of config/runtimes/,
# which `verify` asks models in. What is already built from the same lock stays: build_runtimes.sh UV PYTHON FOLDER
set -euo pipefail
uv=$1 python=$2 folder=$3

for lock in config/runtimes/onnxruntime-*.txt; do
    runtime=$folder/$(basename "$lock" .txt)
    # The copy of the lock is written last: it says that the environment is complete.
    if cmp -s "$lock" "$runtime/lock.txt" && "$runtime/bin/python" -I -c 'import onnxruntime' 2>/dev/null; then
        continue
    fi
    echo "Building $runtime."
    rm -rf "$runtime"
    "$uv" venv --quiet --no-project --python "$python" "$runtime" &&
        "$uv" pip sync --quiet --require-hashes --python "$runtime/bin/python" "$lock" || {
        echo "nightshift: $runtime could not be built from $lock: see the lines above, then run \`make runtimes\`." >&2
        exit 1
    }
    cp "$lock" "$runtime/lock.txt"
done
