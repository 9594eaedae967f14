#!/bin/sh
# Everything that needs a CUDA device, unattended and in under eight minutes: the `cuda` tests and the tables.
# Usage: scripts/gpu-check.sh FOLDER
# Leaves card.txt, tests.txt, bench.txt, bench.json and summary.txt in FOLDER; fails where any part did.
set -u

[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 64; }
mkdir -p "$1" || exit 73
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 70
python=${PYTHON:-.venv/bin/python}
failed=0

# step NAME SECONDS COMMAND…: its output in NAME.txt, its outcome in summary.txt
step() {
    name=$1
    limit=$2
    shift 2
    if timeout "$limit" "$@" >"$out/$name.txt" 2>&1; then
        echo "$name: fine" >>"$out/summary.txt"
    else
        echo "$name: failed with status $? (124: took more than $limit s)" >>"$out/summary.txt"
        failed=1
    fi
}

date -u +"%Y-%m-%dT%H:%M:%SZ" >"$out/summary.txt"
step card 20 nvidia-smi
step device 60 "$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)'
step tests 180 "$python" -m pytest -q -m cuda -rs tests/inference
step bench 210 "$python" -m streamer bench --device cuda --vs transformers \
    --batch 1 --batch 4 --batch 16 --batch 64 --batch 128 --rounds 10 --out "$out/bench.json"
cat "$out/summary.txt"
exit $failed
