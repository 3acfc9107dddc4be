#!/usr/bin/env bash
# Builds the benchmark, checks the kernels, and times them:
#     bash benches/bf16/run.sh [RESULTS]      (default target/bf16)
# Needs nvcc of CUDA 13 and a GPU of compute capability 9.0; runs compute-sanitizer where it is installed. Writes
# RESULTS/bf16.md. BINNED_EXPERTS_COMMIT names the commit where there is no repository.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../target/bf16}
mkdir -p "$out"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
bench="$build/bf16-bench"
nvcc -std=c++20 -O3 -gencode=arch=compute_90a,code=sm_90a -I "$here/../../gpu/kernels" -o "$bench" "$here/harness.cu"

report() {
    echo '# The bf16 kernels on their own'
    echo
    echo "- device: $(nvidia-smi --id=0 --query-gpu=name,driver_version --format=csv,noheader)"
    echo "- compiler: $(nvcc --version | sed -n 's/^Cuda compilation tools, //p')"
    echo "- commit: ${BINNED_EXPERTS_COMMIT:-$(git -C "$here" rev-parse HEAD)}"
    echo "- date: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo '- command: `bash benches/bf16/run.sh`'
    local wrong=0 summary
    printf '\n## Times\n\nMilliseconds; H 2880, I 2880, K 4.\n\n'
    "$bench" time || wrong=1
    printf '## Checks\n\n'
    "$bench" check 800 || wrong=1
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
            if ! compute-sanitizer --tool "$tool" --error-exitcode 9 "$bench" small 20 >"$build/log"; then
                cat "$build/log" >&2
                wrong=1
            fi
            summary=$(tail -n 1 "$build/log")
            echo "- $tool: ${summary#========= }"
        done
    fi
    return "$wrong"
}
report | tee "$out/bf16.md"
