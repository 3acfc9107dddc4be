// Checks and times the bf16 kernels on a GPU of compute capability 9.0:
//
//   bf16-bench check CASES   so many random cases, and replays of graphs
//   bf16-bench small CASES   so many small random cases, for compute-sanitizer
//   bf16-bench time          the shapes of gpt-oss: checked, then timed
//
// Prints Markdown. Status 1: a result is wrong, or CUDA fails; 2: wrong arguments.
#define HOPPER  // for the part that nvcc compiles for the CPU
#include "timing.cuh"

#include <string>

namespace bf16 {

constexpr int64 HIDDEN = 2880, INTERMEDIATE = 2880, TOP_K = 4;

inline int time_all() {
    int wrong = 0;
    for (int64 experts : {32, 128}) {
        const Weights weights(HIDDEN, INTERMEDIATE, experts, 99);
        for (int64 tokens : {64, 512, 4096}) wrong += check_alone(weights, tokens, TOP_K, 10);
        printf("\n");
        print_header();
        for (int64 tokens : {1, 8, 64, 512, 4096, 16384}) wrong += !time_layer(weights, tokens, TOP_K);
        printf("\n");
    }
    return wrong;
}

inline int refuse(const char *expected, const char *found) {
    fprintf(stderr, "expected %s, found %s\n", expected, found);
    return 2;
}

inline int run(int arguments, char **argument) {
    const std::string what = arguments > 1 ? argument[1] : "no argument";
    const bool times = what == "time";
    if (!times && what != "check" && what != "small") return refuse("check, small or time", what.c_str());
    if (arguments != (times ? 2 : 3)) return refuse("the number of cases after check and small alone", what.c_str());
    char *end = nullptr;
    const long cases = times ? 0 : strtol(argument[2], &end, 10);
    if (!times && (*end || cases < 1 || cases > 1000000)) return refuse("1 to 1000000 cases", argument[2]);

    cudaDeviceProp device;
    expect(cudaGetDeviceProperties(&device, 0), "device");
    if (device.major != 9 || device.minor != 0) return refuse("a GPU of compute capability 9.0", device.name);
    expect(cudaFuncSetAttribute(experts_bf16, cudaFuncAttributeMaxDynamicSharedMemorySize, RING_BYTES),
           "shared memory");
    if (times) return time_all() != 0;
    int wrong = check_random(int(cases), what == "small");
    if (what == "check") wrong += check_replays(334);
    return wrong != 0;
}

}  // namespace bf16

int main(int arguments, char **argument) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    return bf16::run(arguments, argument);
}
