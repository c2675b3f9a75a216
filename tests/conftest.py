import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

# The tensors here are tiny: threads would only wait for each other, and other processes have the other cores. Said
# before torch is imported, and to the processes that the tests start.
os.environ["OMP_NUM_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package: make their helpers importable
pytest.register_assert_rewrite("host_trainings", "running", "saved_trainings", "trainings")


@pytest.fixture(scope="session")
def vgg():
    return import_module("vgg_weights").random_vgg()


@pytest.fixture(scope="session")
def linear():
    return import_module("vgg_weights").random_linear()
