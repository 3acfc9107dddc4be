"""yamoe: its ``experts``, the whole function (clone of drbh/yamoe; tried: bd058af; nvcc and ninja build it).

Domain. Alpha and limit are constants of csrc/moe.cpp. It checks that I = H, and that the routing weights are [T,E] or
[T,K]. Its slots are added up by atomics: in bf16 and f16 each rounds, and in fp32 they take subnormal sums as 0, which
the claims say.
The sources under csrc run as they stand, compiled by PyTorch's extension builder.
"""

import glob
import os

from torch.utils.cpp_extension import load

from ._checks import Check
from ._layers import GPT_OSS_BY_SLOT
from ._sources import build_folder, source, version

PROJECT = "drbh/yamoe"
BINDING = """
#include <torch/extension.h>
using torch::Tensor;
Tensor experts_cuda(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t, int64_t, int64_t);
PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("experts", &experts_cuda); }
"""


def build():
    folder = build_folder(PROJECT)
    binding = os.path.join(folder, "binding.cpp")
    if not os.path.exists(binding):
        with open(binding, "w", encoding="utf-8") as file:
            file.write(BINDING)
    files = [file for file in sorted(glob.glob(source(PROJECT, "csrc/*.c*"))) if "backward" not in file]
    return load("yamoe_experts", [binding, *files], build_directory=folder, with_cuda=True).experts


experts = build()


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    expert_capacity,
):
    output = experts(
        hidden_states.flatten(0, 1),
        router_indices,
        routing_weights.reshape(-1, routing_weights.shape[-1]),
        gate_up_proj,
        gate_up_proj_bias,
        down_proj,
        down_proj_bias,
        expert_capacity,
        len(down_proj),
        router_indices.shape[1],
    )
    return output.view_as(hidden_states)


def check(precision, weights="", **domain):
    domain = {"intermediate": {"equals": "hidden"}, **domain}
    return Check(f"yamoe {precision}{weights}", version(PROJECT), moe, precision, domain)


CHECKS = [
    check("fp32+flush"),
    check("bf16+slots-in-element"),
    check("f16+slots-in-element"),
    check("fp32+flush", ", weights by slot", layers=[GPT_OSS_BY_SLOT]),
]
