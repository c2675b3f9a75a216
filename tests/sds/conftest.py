import pytest
from comfyui_stylegan_fusion.sds import SavedTraining
from gaussian import GaussianPrior
from trainings import small_generator


@pytest.fixture
def prior():
    return GaussianPrior()


@pytest.fixture
def generator():
    return small_generator()


@pytest.fixture
def saved(tmp_path):
    return SavedTraining(tmp_path / "new" / "training.safetensors", every=3)
