"""Altered copies do what their name says."""

import numpy as np
import pytest

from phantomset.validators.ladder import LADDER, Rung, make_copies

from .conftest import smooth_images

RUNGS = {rung.name: rung for rung in LADDER}


def copies(name: str, channels: int = 1, size_px: int = 28) -> tuple[np.ndarray, np.ndarray]:
    images = smooth_images(10, 0, seed=4, channels=channels, size_px=size_px).images
    return images[:6], make_copies(RUNGS[name], images, np.arange(6), np.random.default_rng(0))


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
@pytest.mark.parametrize("shape", [{"channels": 1, "size_px": 28}, {"channels": 3, "size_px": 40}])
def test_copies_are_images_of_the_same_shape(rung: Rung, shape: dict) -> None:
    """Every rung gives uint8 images of its input's shape; all but the first differ from their source."""
    source, made = copies(rung.name, **shape)
    assert made.shape == source.shape
    assert made.dtype == np.uint8
    assert (made == source).all() == (rung.name == "exact")


def test_doses_are_those_of_the_specification() -> None:
    """Close copies must be noticed singly, fainter ones by tens; the faintest are reported."""
    doses = {dose: {rung.name for rung in LADDER if rung.dose == dose} for dose in (0, 1, 10)}
    assert {"exact", "noise 2/255", "JPEG quality 50", "blur 0.7 px", "contrast 0.75", "mirror"} <= doses[1]
    assert {"shift 1 px", "shift 2 px", "elastic 1 px", "blend 70/30", "zoom 1.1"} <= doses[1]
    assert doses[10] == {"noise 10/255", "shift, noise and contrast", "blend 50/50"}
    assert doses[0] == {"noise 25/255", "blur 1.5 px", "patch"}


def test_shift_and_mirror_move_pixels() -> None:
    """Two rows down and two columns left; left becomes right."""
    source, moved = copies("shift 2 px")
    np.testing.assert_array_equal(moved[..., 2:, :-2], source[..., :-2, 2:])
    source, mirrored = copies("mirror")
    np.testing.assert_array_equal(mirrored, source[..., ::-1])


def test_noise_has_its_level() -> None:
    """Grey levels of noise: 10, up to clipping and rounding."""
    source, noisy = copies("noise 10/255")
    assert (noisy.astype(float) - source).std() == pytest.approx(10, rel=0.05)


def test_contrast_shrinks_around_the_mean() -> None:
    """0.75 of the deviation, the same mean."""
    source, flat = copies("contrast 0.75")
    np.testing.assert_allclose(flat.std((1, 2, 3)), 0.75 * source.std((1, 2, 3)), rtol=0.02)
    np.testing.assert_allclose(flat.mean((1, 2, 3)), source.mean((1, 2, 3)), atol=0.5)


def test_zoom_keeps_the_middle() -> None:
    """Enlarged about the middle: a point 10 px from it moves to 11 px."""
    image = np.zeros((1, 1, 41, 41), np.uint8)
    image[0, 0, 20, 20] = image[0, 0, 20, 30] = 200
    made = make_copies(RUNGS["zoom 1.1"], image, np.array([0]), np.random.default_rng(0))[0, 0]
    assert made[20].argmax() == 20
    assert made[20, 26:].argmax() + 26 == 31


def test_rotation_turns_by_its_angle() -> None:
    """A point 20 px right of the middle moves 20 sin 4° = 1.4 px up or down."""
    image = np.zeros((1, 1, 61, 61), np.uint8)
    image[0, 0, 29:32, 49:52] = 200
    made = make_copies(RUNGS["rotation 4 degrees"], image, np.array([0]), np.random.default_rng(0))[0, 0]
    rows = np.indices(made.shape)[0]
    assert abs((rows * made).sum() / made.sum() - 30) == pytest.approx(20 * np.sin(np.deg2rad(4)), abs=0.1)
