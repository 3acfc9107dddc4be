"""The command that runs a function in a process of its own."""

import contextlib
import json
import os
import pickle
import shlex
import sys
import tempfile
from multiprocessing import spawn


@contextlib.contextmanager
def command_for(function, name, parameters, domain, device, arrays, poison):
    """The command of a program that calls the function, while the context lasts.

    Raises ``TypeError`` where pickle cannot name the function.
    """
    try:
        pickled = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        message = f"isolate: expected a function at the top of a module, found {function!r}: {error}"
        raise TypeError(message) from error
    preparation = spawn.get_preparation_data(name)
    # It is for talking to this process, which nobody does.
    del preparation["authkey"]
    settings = {
        "preparation": preparation,
        "function": pickled,
        "description": {"name": name, "domain": json.loads(domain.to_json())},
        "parameters": parameters,
        "device": device,
        "arrays": arrays,
        "poison": poison,
    }
    with tempfile.TemporaryDirectory(prefix="binned-experts-") as folder:
        path = os.path.join(folder, "settings.pickle")
        with open(path, "wb") as file:
            pickle.dump(settings, file)
        yield shlex.join([sys.executable, "-m", "binned_experts._child", path])
