"""SGLang: ``fused_experts_impl`` of its Triton experts (unpacked wheel sglang; tried: 0.5.10.post1).

Domain. Its assertion admits fp32, bf16 and f16. For fp32 its products are Triton's ``tl.dot``, which rounds factors to
TF32. It has no capacity.
The files of fused_moe_triton run as they stand; the modules around them are stand-ins. Two functions of the compiled
package sgl_kernel, the rows of each tile and the sum over the slots, are PyTorch's. ``torch.compile`` is off: what it
would fuse runs operation by operation.
"""

import os
import sys
from types import SimpleNamespace

os.environ["TORCH_COMPILE_DISABLE"] = "1"

import torch

from ._checks import Check
from ._layers import GPT_OSS_OUT_IN
from ._sources import load, source, stand_in, version
from ._torch import align_tiles

PROJECT = "sglang"
LAYERS = "sglang.srt.layers"
EXPERTS = f"{LAYERS}.moe.fused_moe_triton"


def sum_over_slots(rows, output, factor):
    torch.sum(rows, dim=1, out=output)
    output.mul_(factor)


def no(*arguments):
    return False


def yes(*arguments):
    return True


ARGUMENTS = SimpleNamespace(enable_fused_moe_sum_all_reduce=False, enable_deterministic_inference=False)
KIND_OF_DEVICE = {
    **dict.fromkeys(("cpu_has_amx_support", "get_bool_env_var", "is_cpu", "is_hip", "is_xpu"), no),
    **dict.fromkeys(("use_intel_xpu_backend",), no),
    **dict.fromkeys(("is_cuda", "is_sm90_supported"), yes),
}
stand_in("sgl_kernel", moe_align_block_size=align_tiles, moe_sum_reduce=sum_over_slots)
stand_in("sglang.srt.batch_invariant_ops", is_batch_invariant_mode_enabled=no)
stand_in("sglang.srt.server_args", get_global_server_args=lambda: ARGUMENTS)
stand_in("sglang.srt.utils", get_device_name=torch.cuda.get_device_name, **KIND_OF_DEVICE)
stand_in("sglang.srt.utils.custom_op", register_custom_op=lambda **options: lambda function: function)
stand_in(f"{LAYERS}.quantization.fp8_kernel")
stand_in(f"{LAYERS}.quantization.int8_kernel")
stand_in(f"{LAYERS}.moe.moe_runner", MoeRunnerConfig=SimpleNamespace)
stand_in(EXPERTS, get_config=lambda: None)
for name in ("moe_align_block_size", "fused_moe_triton_config", "fused_moe_triton_kernels", "fused_moe"):
    load(f"{EXPERTS}.{name}", source(PROJECT, f"{EXPERTS.replace('.', '/')}/{name}.py"))
fused_experts_impl = sys.modules[f"{EXPERTS}.fused_moe"].fused_experts_impl


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    alpha,
    limit,
):
    output = fused_experts_impl(
        hidden_states.flatten(0, 1),
        gate_up_proj,
        down_proj,
        routing_weights.float(),
        router_indices.int(),
        b1=gate_up_proj_bias,
        b2=down_proj_bias,
        gemm1_alpha=alpha,
        gemm1_limit=limit,
    )
    return output.view_as(hidden_states)


def check(kind):
    domain = {"layers": [GPT_OSS_OUT_IN]}
    return Check(f"SGLang fused_experts {kind}", version(PROJECT), moe, kind, domain, shapes=6, shrink_budget=60)


CHECKS = [check(kind) for kind in ("tf32", "bf16", "f16")]
