"""Equal values, equal bytes, whichever of their strings happen to be one object."""

import pickle
import subprocess
import sys

import numpy as np

from nightshift.core import reproducible_pickle


def test_shared_and_separate_strings_give_the_same_bytes():
    shared = "binary:logistic"
    separate = "".join(["binary", ":logistic"])
    assert shared is not separate
    one, two = [shared, shared, {shared: 1}], [shared, separate, {separate: 1}]
    assert pickle.dumps(one) != pickle.dumps(two)
    assert reproducible_pickle.dumps(one) == reproducible_pickle.dumps(two)


def test_values_come_back():
    value = {"weights": np.arange(6.0).reshape(2, 3), "names": ["a", "b"], "nested": ("a", None, 1.5)}
    found = pickle.loads(reproducible_pickle.dumps(value))
    assert found["names"] == value["names"]
    assert found["nested"] == value["nested"]
    np.testing.assert_array_equal(found["weights"], value["weights"])


def test_dill_changes_nothing():
    code = (
        "{}import sys, hashlib; sys.path[:0] = {!r}; from nightshift.core import reproducible_pickle as p; "
        "print(hashlib.sha256(p.dumps({{'a': slice(0, 7), 'b': dict, 'c': print}})).hexdigest())"
    )
    with_dill, without = (
        subprocess.run(
            [sys.executable, "-c", code.format(first, sys.path)], capture_output=True, text=True, check=True
        ).stdout
        for first in ("import dill; ", "")
    )
    assert with_dill == without
