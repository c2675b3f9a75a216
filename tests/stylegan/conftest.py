import pytest
from foreign_files import small


@pytest.fixture
def generator():
    return small()


@pytest.fixture
def labelled():
    return small(c_dim=3)
