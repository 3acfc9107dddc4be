"""yamoe: its `experts`, the whole function (drbh/yamoe; tried: bd058af).

    git clone https://github.com/drbh/yamoe $PUBLISHED_SOURCES/yamoe
    yamoe.py fp32|bf16|f16

Domain. Alpha and limit are constants of csrc/moe.cpp. It checks that I = H. It has a capacity, the second axis of a
launch: from 1 to 65,535. Without assignments it launches no block, so T is at least 1.
The sources under csrc run as they stand, compiled by PyTorch's extension builder.
"""

import glob
import os
import sys

from adapter import build_folder, commit, serve, source
from torch.utils.cpp_extension import load

PRECISION = sys.argv[1]
DOMAIN = {
    "precision": [PRECISION],
    "tokens": {"min": 1},
    "intermediate": {"equals": "hidden"},
    "capacity": {"min": 1, "max": 65535},
    "alpha": [1.702],
    "limit": [7.0],
}
BINDING = """
#include <torch/extension.h>
using torch::Tensor;
Tensor experts_cuda(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t, int64_t, int64_t);
PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("experts", &experts_cuda); }
"""


def build():
    folder = build_folder("yamoe")
    binding = os.path.join(folder, "binding.cpp")
    if not os.path.exists(binding):
        with open(binding, "w", encoding="utf-8") as file:
            file.write(BINDING)
    files = [file for file in sorted(glob.glob(source("yamoe", "csrc/*.c*"))) if "backward" not in file]
    return load("yamoe_experts", [binding, *files], build_directory=folder, with_cuda=True)


experts = build().experts


def pack(weights):
    return weights


def forward(case, weights):
    return experts(
        case.x,
        case.indices,
        case.routing_weights,
        weights.gate_up_proj,
        weights.gate_up_proj_bias,
        weights.down_proj,
        weights.down_proj_bias,
        case.capacity,
        case.experts,
        case.top_k,
    )


serve(f"yamoe-{PRECISION}-{commit('yamoe')}", DOMAIN, pack, forward)
