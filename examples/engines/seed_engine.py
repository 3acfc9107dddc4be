"""The seed's own functions, as they stand, as a program for a check.

The seed is the benchmark script binned_torch.md (huggingface/kernels-benchmarks). The functions are taken from that
file, which is named on the command line; nothing else of it runs. Alpha and limit are constants there, and its sort
is not stable: the order that it took is shown, and it is judged by that. Needs the packages torch and safetensors.

    binned-experts check --command 'python3 examples/engines/seed_engine.py binned_torch.md' --time-limit 120
"""

import ast
import json
import re
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DESCRIPTION = {
    "name": "seed",
    "domain": {"precision": ["fp32", "bf16", "f16"], "alpha": [1.702], "limit": [7.0], "tie_order": "returned"},
}


def functions_of(path):
    """The functions of a script, or of the Python in a page of Markdown, as a namespace."""
    text = open(path, encoding="utf-8").read()
    blocks = re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) or [text]
    namespace = {"torch": torch}
    for block in blocks:
        tree = ast.parse(block)
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        exec(compile(tree, path, "exec"), namespace)
    return namespace


class Seed:
    def __init__(self, path):
        self.functions = functions_of(path)
        self.sort = self.functions["sort_tokens_by_expert"]
        self.functions["sort_tokens_by_expert"] = self.recording
        self.order = None

    def recording(self, *arguments):
        result = self.sort(*arguments)
        self.order = result[0]
        return result

    def answer(self, request):
        with safe_open(request["case"], framework="pt") as file:
            case = {name: file.get_tensor(name) for name in file.keys()}
            capacity = int(file.metadata()["expert_capacity"])
        output = self.functions["binned_experts_ref"](expert_capacity=capacity, **case)
        save_file({"output": output.contiguous(), "sorted_indices": self.order.contiguous()}, request["output"])


def main():
    seed = Seed(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": True}
            if "describe" in request:
                answer = DESCRIPTION
            else:
                seed.answer(request)
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
