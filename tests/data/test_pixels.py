"""Canonical pixels: geometry, quantisation, digest."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from phantomset.data.errors import SourceError
from phantomset.data.pixels.canonical import ImageSettings, canonical, digest_of_pixels, picture_of
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import Cohort
from phantomset.data.splitting.duplicates import thumbnail


def _ramp(height: int, width: int) -> np.ndarray:
    return np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)


def test_digest_is_sha256_over_version_dtype_shape_and_bytes() -> None:
    """The name of an image can be worked out by anyone who knows the four parts."""
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert digest_of_pixels(image) == hashlib.sha256(b"2||u1|1,3,4|" + bytes(range(12))).hexdigest()


def test_digest_tells_shapes_apart() -> None:
    """The same bytes in another shape are another image."""
    image = np.arange(12, dtype=np.uint8)
    assert digest_of_pixels(image.reshape(1, 3, 4)) != digest_of_pixels(image.reshape(1, 4, 3))


def test_quantises_half_to_even() -> None:
    """0.5 of a step goes to 0 and 1.5 to 2, as IEEE rounding says; 254.5 goes to 254."""
    steps = np.zeros((8, 8), dtype=np.float64)
    steps[0, :3] = 0.5, 1.5, 254.5
    quantised = canonical(steps / 255.0, ImageSettings(size_px=8))
    assert quantised[0, 0, :3].tolist() == [0, 2, 254]
    assert quantised.dtype == np.uint8


def test_an_image_of_the_right_size_is_only_quantised() -> None:
    """No filter touches an image that needs none."""
    image = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    assert np.array_equal(canonical(image / np.float32(255), ImageSettings(size_px=28))[0], image)


def test_shrinking_is_antialiased() -> None:
    """Stripes of one pixel cannot be shown at half the size: they become even grey and not aliases."""
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (64, 32))
    shrunk = canonical(stripes, ImageSettings(size_px=16))[0, :, 2:-2].astype(int)
    assert abs(shrunk - 127.5).max() <= 3


def test_shrinking_keeps_the_mean() -> None:
    """An antialiasing filter has weights that add up to one."""
    image = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    assert canonical(image, ImageSettings(size_px=28)).mean() / 255 == pytest.approx(image.mean(), abs=0.01)


def test_colour_becomes_grey_by_bt601() -> None:
    """Grey is 0.299 R + 0.587 G + 0.114 B."""
    colour = np.zeros((8, 8, 3), dtype=np.float32)
    colour[0, 0], colour[1, 1], colour[2, 2] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    grey = canonical(colour, ImageSettings(size_px=8))[0]
    assert [grey[0, 0], grey[1, 1], grey[2, 2]] == [76, 150, 29]


def test_grey_becomes_three_equal_channels() -> None:
    """A colour cohort takes grey images in, repeated."""
    image = canonical(_ramp(8, 8), ImageSettings(size_px=8, channels=3))
    assert image.shape == (3, 8, 8)
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()


def test_colour_keeps_the_order_of_its_channels() -> None:
    """Red, green, blue; height, width."""
    colour = np.random.default_rng(2).random((12, 8, 3)).astype(np.float32)
    image = canonical(colour, ImageSettings(size_px=(12, 8), channels=3))
    assert np.array_equal(image, np.rint(colour.transpose(2, 0, 1) * np.float32(255)).astype(np.uint8))


def test_pad_centres_on_black() -> None:
    """A wide image gets bars above and below, of equal height."""
    image = canonical(np.where(_ramp(8, 16) < 0.5, 0.5, 1.0), ImageSettings(size_px=16, fit="pad"))[0]
    assert (image[:4] == 0).all()
    assert (image[12:] == 0).all()
    assert (image[4:12] > 0).all()


def test_crop_keeps_the_centre() -> None:
    """Of a wide image the middle square stays."""
    wide = _ramp(8, 16)
    assert np.array_equal(
        canonical(wide, ImageSettings(size_px=8, fit="crop"))[0],
        np.rint(wide[:, 4:12] * 255).astype(np.uint8),
    )


def test_exact_refuses_another_ratio() -> None:
    """Without a rule a wide image is an error that says what was found and what to do."""
    with pytest.raises(SourceError, match=r"60 x 80 px.*28 x 28.*image\.fit"):
        canonical(_ramp(80, 60), ImageSettings(size_px=28))


def test_exact_takes_the_same_ratio_at_any_size() -> None:
    """60 x 80 is 24 x 32 in another size; one pixel off is a camera's frame."""
    assert canonical(_ramp(80, 60), ImageSettings(size_px=(32, 24))).shape == (1, 32, 24)
    assert canonical(_ramp(65, 64), ImageSettings(size_px=28)).shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("value", "code"), [(np.nan, "NON_FINITE"), (np.inf, "NON_FINITE"), (0.0, "CONSTANT_IMAGE")]
)
def test_broken_values_are_quarantined(value: float, code: str) -> None:
    """NaN, infinity and an empty picture never enter the store."""
    image = np.zeros((8, 8), dtype=np.float32)
    image[3, 3] = value
    with pytest.raises(Unfit, match=code):
        canonical(image, ImageSettings(size_px=8))


@pytest.mark.parametrize("size", [7, 2049, (28, 4), (28, 28, 28), 0, -1])
def test_size_out_of_range_is_refused(size: object) -> None:
    """Sizes go from 8 to 2048, two sides at most."""
    with pytest.raises(ValidationError):
        ImageSettings.model_validate({"size_px": size})


@pytest.mark.parametrize(("height", "width"), [(40, 40), (16, 16), (20, 40)])
def test_a_picture_made_before_changes_nothing(height: int, width: int) -> None:
    """One conversion for both sizes gives what two give, also where the sides are fitted first."""
    plane, settings = _ramp(height, width) ** 2, ImageSettings(size_px=16, fit="crop")
    picture = picture_of(plane)
    assert np.array_equal(canonical(plane, settings, picture), canonical(plane, settings))
    assert np.array_equal(thumbnail(plane[None], picture), thumbnail(plane[None]))


@pytest.mark.parametrize(
    ("fit", "spacing", "kept"), [("pad", [0.5, 0.5], 1.5), ("crop", [0.5, 0.5], 1.0), ("crop", None, None)]
)
def test_a_record_keeps_the_side_of_its_pixels(
    fit: str,
    spacing: list[float] | None,
    kept: float | None,
    tmp_path: Path,
    make_dicom: Callable[..., bytes],
    take_in: Callable[..., Cohort],
) -> None:
    """16 x 24 px of .5 mm as 8 x 8 px: 24 of them are 8 with bars, 16 are 8 without what lies beside."""
    stored = np.arange(384, dtype=np.uint16).reshape(16, 24)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(make_dicom(stored, PixelSpacing=spacing))
    found = take_in({"format": "dicom", "path": tmp_path / "in"}, fit=fit)
    assert [record.spacing_mm for record in found.records] == [kept]
