"""The program that calls a function in a process of its own: docs/protocol.md has its messages."""

import json
import os
import pickle
import sys
from multiprocessing import spawn

from . import _native
from ._arrays import arrays_of
from ._call import Caller


class EndingCaller(Caller):
    """Ends the process where no later call can be right: the check starts it again, and charges the case."""

    def lost(self, error):
        raise SystemExit(f"{type(error).__name__}: {error}")


def answer(caller, request):
    """The answer to a case."""
    kind, content = caller(*_native.read_case(request["case"]))
    if kind == "ok":
        try:
            _native.write_result(request["output"], content)
        except ValueError as error:
            kind, content = "broken", ("wrong-type", str(error))
    if kind == "broken":
        rule, message = content
        return {"broken": {"rule": rule, "message": message}}
    return {kind: True if kind == "ok" else content}


def main(path):
    # What a function prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with open(path, "rb") as file:
        settings = pickle.load(file)
    spawn.prepare(settings["preparation"])
    function = pickle.loads(settings["function"])
    arrays = arrays_of(settings["arrays"], settings["device"])
    caller = EndingCaller(function, settings["parameters"], arrays, settings["poison"])
    for line in sys.stdin:
        request = json.loads(line)
        answered = settings["description"] if "describe" in request else answer(caller, request)
        print(json.dumps(answered), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
