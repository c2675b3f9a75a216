"""What is said where a library cannot be imported."""

from comfyui_stylegan_fusion.training.packages import import_advice


def said(error: BaseException) -> str:
    return import_advice("Drawing", "pencils", "buy some", error)


def test_a_library_that_is_missing_is_named_with_what_brings_it():
    assert (
        said(ModuleNotFoundError("No module named 'pencils'"))
        == "Drawing needs pencils, which cannot be imported (No module named 'pencils'); buy some."
    )
    assert "No module named 'torchvision'); buy some." in said(ModuleNotFoundError("No module named 'torchvision'"))


def test_a_torchvision_of_another_build_is_named_whatever_library_stumbled_over_it():
    error = ModuleNotFoundError("Could not import module 'CLIPTextModel'.")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    for raised in (error, error.__cause__):
        assert "the torchvision beside it does not fit torch" in said(raised)
        assert "buy some" not in said(raised)


def test_errors_without_words_are_named_by_their_kind():
    assert "(ImportError); buy some." in said(ImportError())
