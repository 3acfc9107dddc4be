"""Layers that several kernels compute, as the field ``layers`` of a domain has them."""

# SiLU without biases, all gates before all ups, a routing weight for each slot; projections [in,out], or [out,in].
IN_OUT = {"activation": "silu", "bias": False, "gate_up": "concatenated", "routing_weights": "by-slot"}
OUT_IN = "mixtral"
# The layer of gpt-oss with a routing weight for each slot, and with projections [out,in] too.
GPT_OSS_BY_SLOT = {"routing_weights": "by-slot"}
GPT_OSS_OUT_IN = {"routing_weights": "by-slot", "projections": "out-in"}
# The same with MXFP4 projections, as gpt-oss is published.
GPT_OSS_MXFP4_BY_SLOT = {"routing_weights": "by-slot", "projections": "mxfp4"}
