#!/bin/bash -eu
# Builds every fuzz target and packs its seeds, as ClusterFuzzLite expects them in $OUT.

# The kernels are compiled with the image's flags, and must be linked with the library that those name.
if [[ " ${CXXFLAGS-} " == *' -stdlib=libc++ '* ]]; then
    export CXXSTDLIB=c++
fi
cargo fuzz build -O --no-trace-compares
for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    cp "fuzz/target/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
    zip -jq "$OUT/${target}_seed_corpus.zip" "fuzz/seeds/$target"/*
done
