// Device memory, launches, and CUDA's errors.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace bf16 {

// Ends the program if CUDA reports an error.
inline void expect(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    fprintf(stderr, "%s: expected success, found: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

// An array in device memory.
template <class T>
class Array {
  public:
    explicit Array(size_t length) : length(length) {
        expect(cudaMalloc(reinterpret_cast<void **>(&values), std::max<size_t>(length, 1) * sizeof(T)), "cudaMalloc");
    }
    explicit Array(const std::vector<T> &host) : Array(host.size()) {
        expect(cudaMemcpy(values, host.data(), bytes(), cudaMemcpyHostToDevice), "upload");
    }
    Array(Array &&other) : values(other.values), length(other.length) { other.values = nullptr; }
    Array(const Array &) = delete;
    ~Array() { cudaFree(values); }

    T *data() const { return values; }
    size_t bytes() const { return length * sizeof(T); }
    std::vector<T> read() const {
        std::vector<T> host(length);
        expect(cudaMemcpy(host.data(), values, bytes(), cudaMemcpyDeviceToHost), "download");
        return host;
    }
    void copy_from(const Array &other) {
        expect(cudaMemcpy(values, other.values, bytes(), cudaMemcpyDeviceToDevice), "copy");
    }
    void set_bytes(int byte) { expect(cudaMemset(values, byte, bytes()), "cudaMemset"); }

  private:
    T *values;
    size_t length;
};

inline void synchronize(const char *what) {
    expect(cudaDeviceSynchronize(), what);
}

// Launches a kernel that may start before the one ahead of it in the stream has ended.
template <class... Parameters, class... Args>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), int64 blocks, int threads, size_t shared_bytes,
            Args... args) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(unsigned(blocks));
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = 1;
    expect(cudaLaunchKernelEx(&config, kernel, Parameters(args)...), "launch");
}

inline int multiprocessors() {
    int count;
    expect(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
    return count;
}

}  // namespace bf16
