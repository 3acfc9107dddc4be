"""Our kernels on tensors of torch: what they refuse anywhere, and what they compute on a GPU."""

import pytest

import binned_experts

torch = pytest.importorskip("torch")
pipeline = pytest.importorskip("binned_experts.pipeline")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

# Sizes H, I and E.
SIZES = 16, 8, 3
EIGHTS = {"multiple_of": 8, "min": 8}


def weights(device, dtype=torch.float32, sizes=SIZES):
    hidden, intermediate, experts = sizes
    generator = torch.Generator().manual_seed(1)
    shapes = (
        (experts, hidden, 2 * intermediate),
        (experts, 2 * intermediate),
        (experts, intermediate, hidden),
        (experts, hidden),
    )
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def test_weights_are_on_a_gpu():
    with pytest.raises(ValueError, match="gate_up_proj: expected a tensor on a GPU, found one on cpu"):
        pipeline.Pipeline(*weights("cpu"))


def test_weights_are_tensors_of_three_axes():
    with pytest.raises(TypeError, match="gate_up_proj: expected a torch.Tensor, found list"):
        pipeline.Pipeline([], [], [], [])
    with pytest.raises(ValueError, match="gate_up_proj: expected a tensor of 3 axes, found 1"):
        pipeline.Pipeline(*[torch.zeros(1)] * 4)


def moe(
    hidden_states,
    router_indices,
    routing_weights,
    gate_up_proj,
    gate_up_proj_bias,
    down_proj,
    down_proj_bias,
    expert_capacity,
    alpha,
    limit,
    layer,
    first_expert,
):
    weights = gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias
    if gate_up_proj_bias is None:
        experts, hidden, wide = gate_up_proj.shape
        biases = gate_up_proj.new_zeros(experts, wide), gate_up_proj.new_zeros(experts, hidden)
        weights = gate_up_proj, biases[0], down_proj, biases[1]
    kind, scale = layer.get("activation", "clamped-swiglu"), layer.get("scale", 1.0)
    options = {"activation": kind, "alpha": alpha, "limit": limit, "scale": scale, "first_expert": first_expert or 0}
    return pipeline.Pipeline(*weights, **options)(hidden_states, router_indices, routing_weights, expert_capacity)


SILU = {"activation": "silu", "bias": False, "scale": 2.5}


@on_gpu
@pytest.mark.parametrize(
    ("precision", "domain"),
    [
        ("fp32", {}),
        ("fp32", {"layers": [SILU, {"activation": "clamped-silu"}], "foreign": ["minus-one", "other-ranks"]}),
        ("bf16", {"hidden": EIGHTS, "intermediate": EIGHTS, "experts": {"max": 512}}),
        ("bf16", {"hidden": EIGHTS, "intermediate": EIGHTS, "experts": {"max": 512}, "layers": [SILU]}),
    ],
)
def test_generated_cases_agree(precision, domain):
    report = binned_experts.check(moe, precision=precision, device="cuda", domain=domain, cases=200, shrink_budget=0)
    assert report.counts["declined"] == 0, str(report)
    report.assert_agrees()


@pytest.fixture
def call():
    """A layer on the GPU, and the arguments of a call."""
    layer = pipeline.Pipeline(*weights("cuda"))
    hidden_states = torch.randn(2, 5, SIZES[0], device="cuda")
    router_indices = torch.randint(0, SIZES[2], (10, 2), device="cuda")
    return layer, (hidden_states, router_indices, torch.rand(2, 5, SIZES[2], device="cuda"))


@on_gpu
def test_streams_and_graphs_give_the_same_bits(call):
    layer, arguments = call
    expected = layer(*arguments)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        on_another = layer(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = layer(*arguments)
    for _ in range(3):
        captured.fill_(torch.nan)
        graph.replay()
        assert torch.equal(captured, expected)
    assert torch.equal(on_another, expected)
    assert torch.equal(layer(*arguments), expected)


@on_gpu
def test_a_row_has_the_same_bits_in_any_batch_where_that_is_asked():
    layer = pipeline.Pipeline(*weights("cuda", sizes=(512, 512, 8)), batch_invariant=True)
    hidden_states = torch.randn(700, 512, device="cuda")
    router_indices = torch.randint(0, 8, (700, 4), device="cuda")
    routing_weights = torch.rand(700, 8, device="cuda")
    together = layer(hidden_states, router_indices, routing_weights)
    for part in (slice(0, 1), slice(100, 133), slice(1, 700)):
        assert torch.equal(layer(hidden_states[part], router_indices[part], routing_weights[part]), together[part])


@on_gpu
def test_what_does_not_fit_is_refused(call):
    layer, (hidden_states, router_indices, routing_weights) = call
    for arguments, message in (
        (
            (hidden_states.cpu(), router_indices, routing_weights),
            "hidden_states: expected the device cuda:0, found cpu",
        ),
        ((hidden_states, router_indices.int(), routing_weights), "router_indices: expected the type torch.int64"),
        ((hidden_states, router_indices[:9], routing_weights), r"router_indices: expected the shape \(10, 2\)"),
        ((hidden_states, router_indices, routing_weights[..., :2]), r"routing_weights: expected the shape \(2, 5, 3\)"),
        ((hidden_states[..., :8], router_indices, routing_weights), r"hidden_states: expected the shape \(2, 5, 16\)"),
        ((hidden_states.mT, router_indices, routing_weights), "hidden_states: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(*arguments)
    assert layer(hidden_states, router_indices, routing_weights).isfinite().all()


@on_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_path_is_the_fastest_one(dtype):
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("expected compute capability 9.0")
    path = pipeline.Pipeline(*weights("cuda", getattr(torch, dtype), (128, 64, 3))).path
    assert path == {"float32": "hopper_fp32", "bfloat16": "hopper_bf16"}[dtype]


@on_gpu
def test_a_type_or_size_without_kernels_is_refused():
    with pytest.raises(ValueError, match="gate_up_proj: expected one of torch.float32, torch.bfloat16"):
        pipeline.Pipeline(*weights("cuda", torch.float16))
    with pytest.raises(RuntimeError, match="portable_bf16: expected tensors in the host's memory"):
        pipeline.Pipeline(*weights("cuda", torch.bfloat16, (5, 8, 3)))
