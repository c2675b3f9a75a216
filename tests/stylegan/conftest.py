import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package: make the helpers importable

from foreign_files import small


@pytest.fixture
def generator():
    return small()


@pytest.fixture
def labelled():
    return small(c_dim=3)
