"""Benchmarks of functions in torch, on the CPU."""

import kernels
import pytest

from binned_experts import KernelTypeEnum, Workload, run_benchmark

torch = pytest.importorskip("torch")
SMALL = Workload(batch=2, seq_len=12, num_experts=4, hidden_dim=32, expert_dim=48)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(function, **arguments):
        return run_benchmark(
            kernel_type=KernelTypeEnum.OPENAI_MOE,
            impl_name="kernel",
            impl_tags={"family": "pytorch", "backend": "eager"},
            impl_func=function,
            **{"device": "cpu", "workloads": [SMALL], **arguments},
        )

    return run


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
):
    x, output = hidden_states.flatten(0, 1), torch.zeros_like(hidden_states).flatten(0, 1)
    for token, experts in enumerate(router_indices.tolist()):
        for expert in experts:
            gate_up = x[token] @ gate_up_proj[expert] + gate_up_proj_bias[expert]
            gate, up = gate_up[0::2].clamp(max=7), gate_up[1::2].clamp(-7, 7)
            row = ((up + 1) * gate * torch.sigmoid(1.702 * gate)) @ down_proj[expert] + down_proj_bias[expert]
            output[token] += routing_weights.flatten(0, 1)[token, expert] * row
    return output.view_as(hidden_states)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "f16")])
def test_a_right_function_is_judged_by_its_dtype(dtype, precision, run, tmp_path):
    result = run(moe, dtype=dtype, precision=f"{precision}+slots-in-element" if precision != "fp32" else None)
    (record,) = result.records
    assert result.ok and record["referee"]["precision"].startswith(precision), str(result)
    assert record["env"]["torch"] == torch.__version__ and record["peak_bytes"] is None
    assert (tmp_path / "openai_moe.jsonl").read_text() == result.to_jsonl()


def test_without_a_device_it_is_the_best_one_and_its_dtype(run):
    (record,) = run(moe, device=None, reps=1, warmup=0).records
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert record["wl"]["device"] == device
    assert record["wl"]["dtype"] == {"cpu": "float32", "cuda": "bfloat16"}[device]


def keeps_weights_by_version():
    kept = {}

    def kernel(gate_up_proj, **arguments):
        key = gate_up_proj.data_ptr(), gate_up_proj._version, gate_up_proj.shape
        if key not in kept:
            kept[key] = gate_up_proj.clone()
        return in_torch(gate_up_proj=kept[key], **arguments)

    return kernel


def in_torch(**arguments):
    arrays = {name: value.numpy() if torch.is_tensor(value) else value for name, value in arguments.items()}
    return torch.from_numpy(kernels.output_of(arrays))


class Subclass(torch.Tensor):
    pass


def overrides_a_method(**arguments):
    output = in_torch(**arguments)
    output.numpy = lambda: None
    return output


@pytest.mark.parametrize(
    ("function", "finding"),
    [
        (keeps_weights_by_version(), "stale-weights"),
        (lambda **arguments: in_torch(**arguments).as_subclass(Subclass), "not-an-array"),
        (overrides_a_method, "not-an-array"),
        (lambda **arguments: in_torch(**arguments).to("meta"), "wrong-device"),
    ],
)
def test_what_is_wrong_has_its_finding(function, finding, run):
    assert [found["kind"] for found in run(function).findings] == [finding]


def test_an_output_may_be_copied_as_part_of_the_time(run):
    buffer = torch.empty(2, 12, 32)

    def kernel(hidden_states, **arguments):
        output = in_torch(hidden_states=hidden_states, **arguments)
        return buffer.copy_(output) if output.shape == buffer.shape else output

    assert [found["kind"] for found in run(kernel).findings] == ["output-overwritten"]
    assert run(kernel, reuses_output=True).ok
