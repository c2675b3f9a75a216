"""When memory runs out while nodes draw, in the host's own Python."""

import json

import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory, run_in_host):
    target = tmp_path_factory.mktemp("memory") / "found.json"
    run_in_host("memory_in_host.py", target)
    return json.loads(target.read_text())


def test_the_host_s_models_make_way_and_the_drawing_goes_on(found):
    assert (found["unloaded without need"], found["unloaded once"]) == (0, 1) and found["the same in the end"]


def test_an_evaluation_makes_room_for_its_images(found):
    assert "Diversity" in found["evaluated"]
    assert "Out of memory while drawing 4 images of 64 x 64 pixels. Close other programs" in found["not evaluated"]


def test_a_projection_that_does_not_fit_is_tried_again(found):
    assert found["projection"] == "found"


def test_what_does_not_fit_even_then_gets_a_sentence(found):
    assert found["attempts"] == 2
    assert "Out of memory while drawing 6 images of 64 x 64 pixels. Draw fewer at a time" in found["sentence"]


def test_a_network_that_could_not_be_moved_goes_back_to_where_it_was(found):
    assert found["went"] == ["meta", "cpu"] and "moved" not in found
