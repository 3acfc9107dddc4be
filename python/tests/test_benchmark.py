"""Benchmarks of functions in numpy: what is found, and what is written."""

import json
import time
from types import SimpleNamespace

import decoys
import numpy
import pytest
from kernels import output_of

from binned_experts import KernelTypeEnum, Skip, Workload, run_benchmark
from binned_experts._benchmark import _session
from binned_experts._benchmark._floor import floor_ms
from binned_experts._benchmark._record import floor_of
from binned_experts._benchmark._workload import OF_SEED

SMALL = Workload(batch=2, seq_len=12, num_experts=4, hidden_dim=32, expert_dim=48)


@pytest.fixture
def run(tmp_path):
    def run(function, workloads=(SMALL,), **arguments):
        arguments = {"arrays": "numpy", "jsonl": tmp_path / "records.jsonl", "workloads": workloads, **arguments}
        return run_benchmark(KernelTypeEnum.OPENAI_MOE, "kernel", {"family": "numpy"}, function, **arguments)

    return run


def found(result):
    return [finding["kind"] for finding in result.findings]


def plain(**case):
    return output_of(case)


BREAK = [
    (decoys.changes_an_input, "rule", ["input-changed"]),
    (decoys.clears_the_routing, "rule", ["input-changed"]),
    (decoys.writes_past_the_end, "rule", ["guard-touched"]),
    (decoys.writes_before_the_start, "rule", ["guard-touched"]),
    (decoys.returns_a_view_of_an_input, "rule", ["output-aliases"]),
    (decoys.returns_a_subclass, "rule", ["not-an-array"]),
    (decoys.returns_what_becomes_an_array, "rule", ["not-an-array"]),
    (decoys.returns_one_buffer, "rule", ["output-overwritten"]),
    (decoys.fills_later, "rule", ["written-after-return"]),
    (decoys.fills_at_next_call, "wrong", ["disagree"]),
    (decoys.keeps_output_by_address, "wrong", ["kept-result"]),
    (decoys.keeps_output_by_shape, "wrong", ["kept-result"]),
    (decoys.keeps_last_output, "wrong", ["kept-result"]),
    (decoys.keeps_output_by_sample, "wrong", ["kept-result"]),
    (decoys.keeps_output_by_sum, "wrong", ["kept-result"]),
    (decoys.keeps_weights_by_address, "wrong", ["stale-weights"]),
    (decoys.right_ten_times, "wrong", ["disagree"]),
    (decoys.right_on_first_row, "wrong", ["disagree"]),
    (decoys.second_slot_dropped_after_warmup, "wrong", ["disagree"]),
    (decoys.returns_zeros, "wrong", ["disagree"]),
    (decoys.one_row_is_nan, "wrong", ["disagree"]),
    (decoys.computes_in_half, "wrong", ["disagree"]),
]
KEEP = [
    decoys.joins_its_threads,
    decoys.packs_weights_by_their_bytes,
    decoys.keeps_a_workspace,
    decoys.plans_by_shape,
    decoys.restores_an_input,
    decoys.copies_an_input,
    decoys.tunes_on_first_call,
    decoys.skips_zero_weights,
    decoys.other_bits_each_time,
    decoys.prints_a_lot,
    decoys.is_unsteady,
    decoys.takes_some_milliseconds,
    decoys.every_other_call_is_slow,
]


@pytest.mark.parametrize(("kernel", "status", "finding"), BREAK, ids=[kernel.__name__ for kernel, _, _ in BREAK])
@pytest.mark.parametrize("most_products", [0, _session.MOST_PRODUCTS], ids=["rows", "whole"])
def test_what_is_wrong_has_its_finding(kernel, status, finding, most_products, run, monkeypatch):
    monkeypatch.setattr(_session, "MOST_PRODUCTS", most_products)
    result = run(kernel())
    (record,) = result.records
    assert found(result) == finding and not result.ok
    assert (record["ok"], record["lat_ms"], record["compile_ms"]) == (False, None, None)
    assert record["err"]["type"] == finding[0] and record["referee"]["status"] == status
    with pytest.raises(AssertionError, match=finding[0]):
        result.assert_ok()


@pytest.mark.parametrize("kernel", KEEP, ids=[kernel.__name__ for kernel in KEEP])
def test_what_keeps_the_rules_is_clean(kernel, run):
    result = run(kernel(), [SMALL] * 2)
    assert result.ok and found(result) == [], str(result)


def test_a_result_kept_by_content_shows_in_the_time_of_a_repeated_call_alone(run):
    result = run(decoys.keeps_output_by_content())
    assert found(result) == ["repeat-faster"] and result.records[0]["referee"]["status"] == "time"
    assert result.records[0]["referee"]["repeat"]["pairs"] == 7
    # Too few pairs say nothing.
    assert run(decoys.keeps_output_by_content(), warmup=0).ok
    further = [call["kind"] for call in result.records[0]["referee"]["calls"]].count("further")
    assert further == _session.FURTHER
    (honest,) = run(decoys.takes_some_milliseconds()).records
    assert honest["ok"] and honest["referee"]["repeat"]["ratio"] > _session.FASTER


def test_a_setup_packs_the_weights_whenever_they_change(run):
    packed = []

    def setup(gate_up_proj, down_proj):
        packed.append(gate_up_proj.copy())
        time.sleep(0.02)
        return gate_up_proj.copy(), down_proj.copy()

    def kernel(state, gate_up_proj_bias, down_proj_bias, hidden_states, router_indices, routing_weights, **case):
        assert "gate_up_proj" in case
        gate_up_proj, down_proj = state
        case |= {"gate_up_proj": gate_up_proj, "down_proj": down_proj}
        case |= {"gate_up_proj_bias": gate_up_proj_bias, "down_proj_bias": down_proj_bias}
        case |= {"hidden_states": hidden_states, "router_indices": router_indices}
        return output_of({"routing_weights": routing_weights, **case})

    result = run(kernel, setup=setup)
    assert result.ok and len(packed) == 2 and not numpy.array_equal(*packed)
    (record,) = result.records
    assert record["referee"]["setup_ms"] >= 20 and record["referee"]["contract"]["setup"]
    assert record["lat_ms"]["p90"] < 20
    with pytest.raises(TypeError, match="impl_func: expected a parameter state"):
        run(plain, setup=setup)


def test_a_setup_does_not_see_the_routing(run):
    def setup(gate_up_proj, router_indices):
        return gate_up_proj

    with pytest.raises(TypeError, match="setup: expected parameters among gate_up_proj, .*found router_indices"):
        run(lambda state, **case: None, setup=setup)


def test_an_output_may_be_overwritten_where_that_is_said(run):
    result = run(decoys.returns_one_buffer(), reuses_output=True)
    assert result.ok and result.records[0]["referee"]["contract"] == {"setup": False, "reuses_output": True}


def test_records_have_the_fields_of_the_harness(run, tmp_path, capsys):
    result = run(plain, [SMALL, Workload(1, 7, 2, 16, 16)], dtype="float32", reps=4, warmup=1)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert records == result.records and result.to_jsonl() == (tmp_path / "records.jsonl").read_text()
    assert capsys.readouterr().out.strip() == str(result)
    for record in records:
        fields = "ts run impl tags wl env lat_ms compile_ms peak_bytes ok absmax corr err referee"
        assert list(record) == fields.split()
        assert list(record["env"]) == "torch cuda gpu sm py plat".split()
        assert list(record["lat_ms"]) == "p10 p50 p90 mean iqr raw_times has_warnings reps warmup".split()
        assert list(record["corr"]) == "ok rtol atol absmax mae mse ref".split()
        assert record["ok"] and record["err"] is None and record["run"] == records[0]["run"]
        assert (record["lat_ms"]["reps"], record["lat_ms"]["warmup"]) == (4, 1)
        assert 0 < record["corr"]["mae"] < record["absmax"] < 1e-4 and record["corr"]["mse"] < record["absmax"] ** 2
    wl = records[0]["wl"]
    assert wl == {
        "name": "cpu_B2_S12_E4",
        "batch": 2,
        "seq_len": 12,
        "hidden_dim": 32,
        "expert_dim": 48,
        "num_experts": 4,
        "top_k": 2,
        "dtype": "float32",
        "device": "cpu",
    }
    times = sorted(records[0]["lat_ms"]["raw_times"])
    assert [records[0]["lat_ms"][name] for name in ("p10", "p50", "p90")] == [times[0], times[1], times[2]]


def test_the_calls_are_those_that_are_documented(run):
    seen = []

    def kernel(**case):
        seen.append((case["hidden_states"].shape[1], case["hidden_states"].copy(), case["down_proj"].copy()))
        return output_of(case)

    (record,) = run(kernel, reps=2, warmup=1).records
    kinds = [call["kind"] for call in record["referee"]["calls"]]
    pair, nearly = ["timed", "again"], ["exchanged tokens", "other routing"]
    expected = ["first", "other size", "warm-up", "again", *pair, *nearly, "other weights", *pair]
    assert kinds == expected and len(seen) == len(kinds)
    assert [tokens for tokens, _, _ in seen] == [12, 6] + [12] * 9
    for number, (kind, (_, hidden, down)) in enumerate(zip(kinds, seen)):
        same = [numpy.array_equal(hidden, other) for _, other, _ in seen]
        times = {"warm-up": 2, "timed": 2, "again": 2, "exchanged tokens": 2, "other routing": 2}
        assert sum(same) == times.get(kind, 1)
        assert numpy.array_equal(down, seen[0][2]) == (number < 8)


def test_a_seed_decides_the_values(run):
    def values(seed=None):
        seen = []

        def kernel(**case):
            seen.append((case["hidden_states"].tobytes(), case["down_proj"].tobytes()))
            return output_of(case)

        result = run(kernel, seed=seed)
        return seen, result.records[0]["referee"]["seed"]

    drawn, seed = values()
    assert values(seed) == (drawn, seed)
    assert values()[0] != drawn


def test_the_rows_that_are_judged_are_others_in_each_call(run, monkeypatch):
    monkeypatch.setattr(_session, "MOST_PRODUCTS", 0)
    monkeypatch.setattr(_session, "ROWS", 3)
    wanted = []
    right = _session.Session.judge

    def judge(self, observed, output, tokens):
        wanted.append((observed.kind, tokens))
        right(self, observed, output, tokens)

    monkeypatch.setattr(_session.Session, "judge", judge)
    (record,) = run(plain).records
    assert record["referee"]["rows"] == 3 and record["ok"]
    assert all(len(tokens) == 3 for kind, tokens in wanted if kind == "timed")
    assert all(3 <= len(tokens) <= 5 for kind, tokens in wanted if kind in ("exchanged tokens", "other routing"))
    assert len({token for _, tokens in wanted for token in tokens}) > 10


@pytest.mark.parametrize(
    ("function", "status", "error"),
    [
        (lambda **case: 1 / 0, "error", {"type": "ZeroDivisionError", "msg": "division by zero"}),
        (lambda **case: {"bins": numpy.zeros(4, "int64")}, "error", None),
        (lambda hidden_states, **case: hidden_states.reshape(-1).copy(), "wrong", None),
        (lambda hidden_states, **case: hidden_states.astype("float64"), "wrong", None),
    ],
)
def test_no_output_is_a_record_with_its_reason(function, status, error, run):
    (record,) = run(function).records
    assert record["referee"]["status"] == status and not record["ok"] and record["lat_ms"] is None
    assert error is None or record["err"] == error


def test_a_function_may_decline_a_workload_or_another_size(run):
    def kernel(hidden_states, **case):
        if hidden_states.shape[1] != 12:
            raise Skip("12 tokens only")
        return output_of({"hidden_states": hidden_states, **case})

    (record,) = run(kernel).records
    assert record["ok"] and record["referee"]["other_size_declined"] == "12 tokens only"
    declined, right = run(kernel, [Workload(1, 8, 2, 16, 16), SMALL]).records
    assert declined["referee"]["status"] == "declined" and declined["err"]["msg"] == "12 tokens only"
    assert right["ok"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_type": "relu"}, "kernel_type: expected one of .*found 'relu'"),
        ({"impl_func": None}, "impl_func: expected a function, found None"),
        ({"impl_func": lambda x: x}, "impl_func: expected parameters among hidden_states.*found x"),
        ({"impl_tags": {"backend": plain}}, "not JSON serializable"),
        ({"arrays": "jax"}, "arrays: expected one of torch, numpy; found 'jax'"),
        ({"dtype": "int8"}, "dtype: expected one of float32.*found 'int8'"),
        ({"precision": "bf16"}, "precision: expected one of float32, found 'bf16'"),
        ({"precision": "nothing"}, "precision: "),
        ({"reps": 0}, "reps: expected a whole number from 1 on, found 0"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 4294967295, found -1"),
        ({"workloads": [(1, 2, 2)]}, r"workloads: expected a Workload, found \(1, 2, 2\)"),
        ({"device": "cuda"}, "device: expected one of cpu"),
    ],
)
def test_bad_arguments_are_named(arguments, message, tmp_path):
    usual = {"kernel_type": "openai_moe", "impl_func": plain, "arrays": "numpy", "jsonl": tmp_path / "x.jsonl"}
    with pytest.raises((TypeError, ValueError), match=message):
        run_benchmark(**{**usual, **arguments})
    assert not (tmp_path / "x.jsonl").exists()


def test_the_usual_workloads_are_those_of_the_seed():
    assert [workload.name("cpu") for workload in OF_SEED] == [
        "cpu_B1_S512_E2",
        "cpu_B1_S512_E4",
        "cpu_B1_S1024_E2",
        "cpu_B1_S1024_E4",
        "cpu_B4_S512_E2",
        "cpu_B4_S512_E4",
        "cpu_B4_S1024_E2",
        "cpu_B4_S1024_E4",
    ]
    assert {(one.hidden_dim, one.expert_dim, one.top_k) for one in OF_SEED} == {(2880, 5760, 2)}


def test_sizes_that_make_no_call_are_refused(run):
    with pytest.raises(ValueError, match="gate_up_proj: could not allocate"):
        run(plain, [Workload(1, 1, 1, hidden_dim=1 << 40)])
    with pytest.raises(ValueError, match="seq_len: expected a whole number above 0, found 0"):
        Workload(1, 0, 2)
    with pytest.raises(ValueError, match="expert_dim: expected an even number, gates and ups, found 5"):
        Workload(1, 1, 2, expert_dim=5)


def test_the_floor_is_what_must_be_computed_or_read():
    workload = Workload(1, 512, 2)
    card = "NVIDIA H100 80GB HBM3"
    # 1,024 pairs: 3 · 2·1024·2880·3·2880 operations at 989.4e12; weights of 199 MB at 3350e9.
    assert floor_ms(card, "fp32", workload, (1024, 512, 2), 4) == pytest.approx(0.15454, rel=1e-3)
    assert floor_ms(card, "bf16", workload, (1024, 512, 2), 2) == pytest.approx(0.05151, rel=1e-3)
    assert floor_ms(card, "bf16", workload, (1, 1, 1), 2) == pytest.approx(0.014857, rel=1e-3)
    assert floor_ms("a card", "fp32", workload, (1024, 512, 2), 4) is None
    assert floor_ms(card, "fp64", workload, (1024, 512, 2), 8) is None


def test_a_time_below_the_floor_is_seen():
    def floor(ms):
        calls = [SimpleNamespace(kind="timed", necessary=(1024, 512, 2), seconds=ms / 1e3)] * 3
        session = SimpleNamespace(precision="fp32", workload=Workload(1, 512, 2), calls=calls)
        env = {"gpu": "NVIDIA H100 80GB HBM3"}
        return floor_of({"env": env, "device": "cuda", "dtype": "float32"}, session)

    assert floor(0.5)["share"] == pytest.approx(0.309, rel=1e-2)
    assert floor(0.1)["shortest"] == pytest.approx(0.647, rel=1e-2)
    assert floor_of({"env": {"gpu": ""}, "device": "cpu", "dtype": "float32"}, SimpleNamespace(calls=[])) == {
        "ms": None,
        "share": None,
        "shortest": None,
        "why": "none for a CPU",
    }
