"""Settings that are declared once, and what derives from the declaration."""

from dataclasses import dataclass

import pytest
from comfyui_stylegan_fusion.training.settings import check_settings, declared_settings, setting


@dataclass(frozen=True)
class Knobs:
    speed: float = setting(0.5, "How fast.", what="The speed", unit="a share", least=0, most=1)
    count: int = setting(3, "How many.", least=1)
    limit: float | None = setting(None, "Where to stop.", above=0)
    parts: tuple[str, ...] = setting((), "Which.", what="part", choices=("a", "b"))
    plain: int = 7

    def __post_init__(self):
        check_settings(self)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"speed": 1.5}, "The speed is 1.5; give a share from 0 to 1."),
        ({"speed": float("nan")}, "The speed is nan; give a share from 0 to 1."),
        ({"count": 0}, "count is 0; it must be at least 1."),
        ({"limit": 0.0}, "limit is 0.0; it must be above 0."),
        ({"parts": ("a", "c")}, "There is no part 'c'; choose from a, b."),
    ],
)
def test_a_value_out_of_range_gets_one_sentence(change, sentence):
    with pytest.raises(ValueError) as caught:
        Knobs(**change)
    assert str(caught.value) == sentence


def test_bounds_themselves_and_none_where_it_is_a_value_are_fine():
    assert Knobs(speed=1.0, count=1, limit=None, parts=("b", "a")).speed == 1.0


def test_what_is_declared_is_found_with_its_kind():
    found = declared_settings(Knobs)
    assert list(found) == ["speed", "count", "limit", "parts"]
    assert [(one.kind, one.optional) for one in found.values()] == [
        (float, False),
        (int, False),
        (float, True),
        (tuple, False),
    ]
    assert found["limit"].default is None and found["count"].setting.help == "How many."


@pytest.mark.parametrize(
    "change", [{"count": "5"}, {"count": None}, {"speed": True}, {"speed": "0.1"}, {"parts": "ab"}]
)
def test_a_value_of_another_kind_gets_a_sentence(change):
    with pytest.raises(ValueError, match=r" is .*; give a "):
        Knobs(**change)


def test_whole_numbers_of_any_size_are_compared():
    assert Knobs(count=10**400).count == 10**400
