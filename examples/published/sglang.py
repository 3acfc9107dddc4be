"""SGLang: fused_experts_impl of its Triton experts (package sglang from PyPI; tried: 0.5.10.post1).

    pip download --no-deps sglang==0.5.10.post1 && unzip sglang-*.whl -d $PUBLISHED_SOURCES/sglang
    sglang.py f32|bf16|f16

Domain. Its assertion admits the three types. For f32 its products are Triton's tl.dot, which rounds factors to tf32, so
it is held to tf32. It has no capacity.
The files of fused_moe_triton run as they stand; the modules around them are stand-ins. Two functions of the compiled
package sgl_kernel, the rows of each tile and the sum over the slots, are the adapter's, in PyTorch. torch.compile is
off: what it would fuse runs operation by operation.
"""

import os
import sys
from types import SimpleNamespace

os.environ["TORCH_COMPILE_DISABLE"] = "1"

import torch
from adapter import load, serve, source, stand_in

PRECISIONS = {"f32": "tf32", "bf16": "bf16", "f16": "f16"}
TYPE = sys.argv[1]
DOMAIN = {"precision": [PRECISIONS[TYPE]], "drops": False}


def moe_align_block_size(topk_ids, experts, block, sorted_ids, expert_ids, rows_padded, cumsum_buffer, pad_sorted):
    """The flat indices by expert, those of each filled up to whole tiles with an index that is none."""
    flat = topk_ids.flatten().long()
    expert, order = torch.sort(flat, stable=True)
    counts = torch.bincount(flat, minlength=experts)
    ends = ((counts + block - 1) // block * block).cumsum(0)
    starts = ends - (counts + block - 1) // block * block
    rank = torch.arange(len(flat), device=flat.device) - (counts.cumsum(0) - counts)[expert]
    sorted_ids.fill_(len(flat))
    sorted_ids[starts[expert] + rank] = order.int()
    tiles = torch.arange(0, len(expert_ids) * block, block, device=flat.device)
    expert_ids.copy_(torch.searchsorted(ends, tiles, right=True))
    rows_padded.copy_(ends[-1:])


def moe_sum_reduce(rows, output, factor):
    torch.sum(rows, dim=1, out=output)
    output.mul_(factor)


def no(*arguments):
    return False


def yes(*arguments):
    return True


ARGUMENTS = SimpleNamespace(enable_fused_moe_sum_all_reduce=False, enable_deterministic_inference=False)
LAYERS = "sglang.srt.layers"
MOE = LAYERS + ".moe.fused_moe_triton"
for name in ("sglang", "sglang.srt", LAYERS, LAYERS + ".quantization", LAYERS + ".moe"):
    stand_in(name)
stand_in("sgl_kernel", moe_align_block_size=moe_align_block_size, moe_sum_reduce=moe_sum_reduce)
stand_in("sglang.srt.batch_invariant_ops", is_batch_invariant_mode_enabled=no)
stand_in("sglang.srt.server_args", get_global_server_args=lambda: ARGUMENTS)
stand_in(
    "sglang.srt.utils",
    cpu_has_amx_support=no,
    get_bool_env_var=no,
    get_device_name=torch.cuda.get_device_name,
    is_cpu=no,
    is_cuda=yes,
    is_hip=no,
    is_sm90_supported=yes,
    is_xpu=no,
    use_intel_xpu_backend=no,
)
stand_in("sglang.srt.utils.custom_op", register_custom_op=lambda **options: lambda function: function)
stand_in(LAYERS + ".quantization.fp8_kernel")
stand_in(LAYERS + ".quantization.int8_kernel")
stand_in(LAYERS + ".moe.moe_runner", MoeRunnerConfig=SimpleNamespace)
stand_in(MOE, get_config=lambda: None)
for name in ("moe_align_block_size", "fused_moe_triton_config", "fused_moe_triton_kernels", "fused_moe"):
    load(f"{MOE}.{name}", source("sglang", f"{MOE.replace('.', '/')}/{name}.py"))
fused_experts_impl = sys.modules[MOE + ".fused_moe"].fused_experts_impl


def pack(weights):
    """The weights by [out,in], and the biases."""
    up, down = (weight.transpose(1, 2).contiguous() for weight in (weights.gate_up_proj, weights.down_proj))
    return up, weights.gate_up_proj_bias, down, weights.down_proj_bias


def forward(case, packed):
    up, up_bias, down, down_bias = packed
    return fused_experts_impl(
        case.x,
        up,
        down,
        case.weights.float(),
        case.indices.int(),
        b1=up_bias,
        b2=down_bias,
        gemm1_alpha=case.alpha,
        gemm1_limit=case.limit,
    )


version = open(source("sglang", "VERSION"), encoding="utf-8").read().strip()
serve(f"sglang-{TYPE}-{version}", DOMAIN, pack, forward)
