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
cp "$(executable bf16 bench --no-run --bench bf16)" "$folder/bf16-bench"
cp -r tests/goldens tests/layers tests/layers.toml "$folder/tests"
cp -r tests/zoo "$folder/tests/zoo"
cp -r benches/peers "$folder/peers"
rm -rf "$folder/peers/__pycache__"
strip "$folder/binned-experts" "$folder/gpu-tests" "$folder/pipeline-bench" "$folder/bf16-bench"
git rev-parse HEAD >"$folder/commit"

cat >"$folder/run.sh" <<'RUN'
#!/usr/bin/env bash
#     bash run.sh [test|bf16|bench|zoo|all] [RESULTS]
# test: the tests, a check of 20,000 generated cases and the goldens, checks of 2,000 cases in other batches and of other
# layers, and the sanitizers. bf16: checks, sanitizers and benchmark of the path in bf16. bench: the benchmark, once more
# with the same bits in any batch, and other implementations beside it where python3 has torch. zoo: the planted bugs,
# which NVRTC compiles.
set -euo pipefail
what=${1:-all}
out=$(mkdir -p "${2:-results}" && cd "${2:-results}" && pwd)
cd "$(dirname "$0")"
export BINNED_EXPERTS_REQUIRE_GPU=1 BINNED_EXPERTS_ROOT="$PWD" BINNED_EXPERTS_COMMIT="$(cat commit)"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/device"
runs() { [ "$what" = all ] || [ "$what" = "$1" ]; }
sanitize() { compute-sanitizer --tool "$1" --error-exitcode 9 "${@:2}" 2>&1 | tail -n 2 | sed "s/^/$1: /"; }
if runs test; then
    ./gpu-tests --test-threads=1 2>&1 | tee "$out/gpu-tests.txt"
    ./binned-experts check --engine cuda-hopper --precision fp32 --cases 20000 --golden tests/goldens \
        --save "$out/failures" | tee "$out/check.txt"
    ./binned-experts check --engine cuda-portable --cases 2000 --golden tests/goldens --save "$out/failures" |
        tee "$out/check-portable.txt"
    ./binned-experts check --engine cuda-hopper-batch-invariant --cases 2000 --save "$out/failures" |
        tee "$out/check-batch-invariant.txt"
    ./binned-experts check --engine cuda-hopper --engine cuda-portable --precision fp32 --domain tests/layers.toml \
        --cases 2000 --golden tests/layers --save "$out/failures" | tee "$out/check-layers.txt"
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            for engine in cuda-hopper cuda-portable; do
                sanitize "$tool" ./binned-experts check --engine "$engine" --precision fp32 --cases 60 --seed 77
            done
        done | tee "$out/sanitizers.txt"
        # The check fills its workspace with NaN first; these do not, so that reads of unwritten memory show.
        sanitize initcheck ./gpu-tests unpoisoned | tee -a "$out/sanitizers.txt"
    fi
fi
if runs bf16; then
    ./bf16-bench --bench | tee "$out/bf16.md"
    # Cases that the kernels in bf16 take; most of the others are left to the portable ones.
    printf 'hidden = { multiple_of = 8 }\nintermediate = { multiple_of = 8 }\n' >"$out/in-eights.toml"
    ./binned-experts check --engine cuda-hopper --precision bf16 --domain "$out/in-eights.toml" --cases 20000 \
        --golden tests/goldens --save "$out/failures" | tee "$out/check-bf16.txt"
    cat tests/layers.toml "$out/in-eights.toml" >"$out/layers-in-eights.toml"
    ./binned-experts check --engine cuda-hopper --precision bf16 --domain "$out/layers-in-eights.toml" --cases 2000 \
        --golden tests/layers --save "$out/failures" | tee "$out/check-layers-bf16.txt"
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            sanitize "$tool" ./binned-experts check --engine cuda-hopper --precision bf16 \
                --domain "$out/in-eights.toml" --cases 60 --seed 77
        done | tee "$out/sanitizers-bf16.txt"
    fi
fi
if runs bench; then
    ./pipeline-bench --bench --reference-budget 1 --out "$out"
    ./pipeline-bench --bench --reference-budget 1 --batch-invariant --out "$out/batch-invariant"
    if python3 -c 'import torch' 2>/dev/null; then python3 peers/run.py --ours "$out/ours.jsonl" --out "$out"; fi
fi
if runs zoo; then
    # Its status tells that an animal fares otherwise than on the emulator.
    ./binned-experts zoo --engine cuda --zoo tests/zoo | tee "$out/zoo.txt" || true
fi
RUN
echo "$folder: copy it to the GPU machine and run: bash run.sh"
