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


@pytest.fixture(scope="module", autouse=True)
def freed_memory_is_kept():
    """A third of the time goes otherwise into pages that the system clears."""
    cpu = import_module("torch").device("cpu")
    with import_module("comfyui_stylegan_fusion.training.allocator").keeping_freed_memory(cpu):
        yield


@pytest.fixture(scope="session")
def vgg():
    return import_module("vgg_weights").random_vgg()


@pytest.fixture(scope="session")
def linear():
    return import_module("vgg_weights").random_linear()


@pytest.fixture
def windows(monkeypatch):
    """Its rule: no file can be replaced that is mapped into memory. A list of the refusals."""
    refusals = []

    class Windows:
        name = "nt"
        fsync = staticmethod(os.fsync)

        @staticmethod
        def replace(source, target):
            with open("/proc/self/maps") as maps:
                if str(target) in maps.read():
                    refusals.append(target)
                    raise PermissionError(13, "Access is denied", str(target))
            os.replace(source, target)

    monkeypatch.setattr(import_module("comfyui_stylegan_fusion.training.files"), "os", Windows)
    monkeypatch.setattr(import_module("comfyui_stylegan_fusion.training.files"), "PATIENCE", 0.25)
    return refusals
