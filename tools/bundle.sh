#!/usr/bin/env bash
# Builds everything that a GPU machine without Rust needs into one folder:
#     tools/bundle.sh [FOLDER]      (default target/bundle)
# Copy the folder there; its one command is `bash run.sh`. It needs an NVIDIA driver and glibc, nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/bundle}

# The path of the executable of a target (bin, test or bench) that cargo builds with these arguments.
executable() {
    cargo "${@:2}" --message-format=json |
        python3 -c 'import json, sys
messages = map(json.loads, sys.stdin)
print([m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == sys.argv[1]][-1])' "$1"
}

rm -rf "$folder"
mkdir -p "$folder/tests"
cp "$(executable binned-experts build --release --bin binned-experts)" "$folder/binned-experts"
cp "$(executable gpu test --release --no-run --test gpu)" "$folder/gpu-tests"
cp "$(executable pipeline bench --no-run --bench pipeline)" "$folder/pipeline-bench"
cp -r tests/goldens "$folder/tests/goldens"
git rev-parse HEAD >"$folder/commit"

cat >"$folder/run.sh" <<'RUN'
#!/usr/bin/env bash
# Tests, a check of 20,000 generated cases and the goldens, and the benchmark. Results go to $1, or to results/.
set -euo pipefail
out=$(mkdir -p "${1:-results}" && cd "${1:-results}" && pwd)
cd "$(dirname "$0")"
export MOE_REQUIRE_GPU=1 MOE_ROOT="$PWD" BENCH_COMMIT="$(cat commit)"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/device"
./gpu-tests --test-threads=1 2>&1 | tee "$out/gpu-tests.txt"
./binned-experts check --engine cuda --cases 20000 --golden tests/goldens --save "$out/failures" | tee "$out/check.txt"
if command -v compute-sanitizer >/dev/null; then
    sanitize() { compute-sanitizer --tool "$1" --error-exitcode 9 "${@:2}" 2>&1 | tail -n 2 | sed "s/^/$1: /"; }
    for tool in memcheck racecheck synccheck; do
        sanitize "$tool" ./binned-experts check --engine cuda --cases 60 --seed 77
    done | tee "$out/sanitizers.txt"
    # The check fills its workspace with NaN first; this test does not, so that reads of unwritten memory show.
    sanitize initcheck ./gpu-tests two_pipelines | tee -a "$out/sanitizers.txt"
fi
./pipeline-bench --bench --out "$out"
RUN
echo "$folder: copy it to the GPU machine and run: bash run.sh"
