"""Representations and calibrated distances, against definitions written out in loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from phantomset.data.records import ImageSet
from phantomset.validators import distances, pictures
from phantomset.validators.distances import Candidates, measure, pair_distances
from phantomset.validators.features import Space, fit_spaces
from phantomset.validators.ladder import LADDER, Rung, make_copies, warp
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.mirrors import folded, mirrored
from phantomset.validators.pictures import high_pass, pixels, unit
from phantomset.validators.wavelets import wavelet_features

from .conftest import smooth_images

TURNED = (
    Rung("rotation 10 degrees", warp(degrees=10), 0),
    Rung("zoom 1.25", warp(zoom=1.25), 0),
    Rung("upside down", lambda image, _other, _rng: image[:, ::-1], 0),
    Rung("quarter turn", lambda image, _other, _rng: np.rot90(image, 1, (1, 2)), 0),
)
BY_DISTANCE = ("pix", "hp", "scan", "scanhp", "scanpca", "affine", "patch", "pca", "white", "learned", "tex")
SPACES = (*BY_DISTANCE[:-1], "lines", "tex")


@pytest.fixture(scope="module")
def reference() -> ImageSet:
    return smooth_images(40, 0, seed=1)


@pytest.fixture(scope="module")
def spaces(reference: ImageSet) -> dict[str, Space]:
    return {space.name: space for space in fit_spaces(reference.images)}


def brute_distance(space: Space, query: np.ndarray, candidate: np.ndarray) -> float:
    """The least distance over variants, of the mirror image too where it counts, and parts, in float64."""
    sides = [query, query[:, :, ::-1]] if space.mirrors else [query]
    left = space.queries(np.stack(sides), torch.float64).flatten(0, 1).numpy()
    right = space.candidates(candidate[None], torch.float64)[0].numpy()
    return min(
        float(np.linalg.norm(variant[part] - right[part])) / space.scales[part]
        for variant in left
        for part in range(len(right))
    )


def test_the_suite_has_its_representations(spaces: dict[str, Space]) -> None:
    """Twelve representations, in the order in which findings list them."""
    assert tuple(spaces) == SPACES


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_table_is_the_definition(
    name: str, spaces: dict[str, Space], reference: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """q = d(x,s) / √(d(x,R) d(s,R)); head, tail and votes are its minima, over many blocks."""
    monkeypatch.setattr(distances, "ENCODED_AT_ONCE", 4)
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 3000)
    space, real, made = spaces[name], smooth_images(6, 50, seed=1).images, smooth_images(5, 70, seed=1).images
    (found,) = measure(space, real, reference, (Candidates(made, tail=2),)).tables
    to_r = {
        id(real): [min(brute_distance(space, x, r) for r in reference.images) for x in real],
        id(made): [min(brute_distance(space, r, s) for r in reference.images) for s in made],
    }
    q = np.array(
        [
            [
                brute_distance(space, x, s) / math.sqrt(a * b)
                for s, b in zip(made, to_r[id(made)], strict=True)
            ]
            for x, a in zip(real, to_r[id(real)], strict=True)
        ]
    )
    np.testing.assert_allclose(found.head, q[:, :-2].min(1), rtol=2e-4)
    np.testing.assert_array_equal(found.head_index, q[:, :-2].argmin(1))
    np.testing.assert_allclose(found.tail, q[:, -2:], rtol=2e-4)
    np.testing.assert_array_equal(found.votes, q.argmin(0))
    np.testing.assert_allclose(found.vote_q, q.min(0), rtol=2e-4)


def place(x: np.ndarray, s: np.ndarray, near: np.ndarray) -> float:
    """How far s is from x on lines to images of R, or in the first ten components, by the length of each."""
    lines = [x - r for r in near]
    outline = np.linalg.norm((x - s)[:10])
    return max(
        max(abs((x - s) @ line) / np.linalg.norm(line), outline) / np.linalg.norm(line) for line in lines
    )


def nearest_of(reference: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The positions of R's images, the nearest to s first."""
    return np.argsort(np.linalg.norm(reference - s, axis=1))


def test_the_table_of_lines_is_the_definition(
    spaces: dict[str, Space], reference: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """q by the five r nearest to s, in the encoder's vectors; the same over many blocks."""
    monkeypatch.setattr(distances, "ENCODED_AT_ONCE", 4)
    monkeypatch.setattr(distances, "BLOCK_ELEMENTS", 3000)
    monkeypatch.setattr(distances, "ROWS_ELEMENTS", 4 * 45)
    space, real, made = (
        spaces["lines"],
        smooth_images(6, 50, seed=1).images,
        smooth_images(5, 70, seed=1).images,
    )
    (found,) = measure(space, real, reference, (Candidates(made, tail=2),)).tables
    xs, ss, rs = (
        space.candidates(part, torch.float64)[:, 0].numpy() for part in (real, made, reference.images)
    )
    q = np.array([[place(x, s, rs[nearest_of(rs, s)[:5]]) for s in ss] for x in xs])
    np.testing.assert_allclose(found.head, q[:, :-2].min(1), rtol=1e-9)
    np.testing.assert_array_equal(found.head_index, q[:, :-2].argmin(1))
    np.testing.assert_allclose(found.tail, q[:, -2:], rtol=2e-4)
    np.testing.assert_array_equal(found.votes, q.argmin(0))


def test_lines_are_drawn_in_whitened_pixels(spaces: dict[str, Space], reference: ImageSet) -> None:
    """Distances are Mahalanobis' with a hundredth of R's variance on the diagonal, the outline first."""
    pictures = reference.images.reshape(len(reference), -1) / 255
    centred = pictures - pictures.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    variances = singular**2 / (len(centred) - 1)
    ridge = 0.01 * (centred**2).sum(1).mean()
    kept = len(centred) // 2
    inverse = np.eye(centred.shape[1]) / ridge
    inverse += axes[:kept].T @ np.diag(1 / (variances[:kept] + ridge) - 1 / ridge) @ axes[:kept]
    some = smooth_images(4, 50, seed=1).images
    difference = (some[1:].astype(float) - some[:1]).reshape(len(some) - 1, -1) / 255
    encoded = spaces["lines"].candidates(some, torch.float64)[:, 0].numpy()
    expected = np.einsum("nd,de,ne->n", difference, inverse, difference)
    np.testing.assert_allclose(((encoded[1:] - encoded[0]) ** 2).sum(1), expected, rtol=1e-9)
    first = (difference @ axes[:10].T) ** 2 / (variances[:10] + ridge)
    np.testing.assert_allclose((encoded[1:] - encoded[0])[:, :10] ** 2, first, rtol=1e-7)


def test_noise_does_not_move_a_copy_on_the_lines(spaces: dict[str, Space], reference: ImageSet) -> None:
    """With noise of 25/255 a copy's distance is that of strangers; on the lines it stands by its original."""
    real = smooth_images(60, 50, seed=1).images
    noisy = next(rung for rung in LADDER if rung.name == "noise 25/255")
    copies = make_copies(noisy, real, np.arange(30), np.random.default_rng(0))
    (found,) = measure(spaces["lines"], real, reference, (Candidates(copies),)).tables
    np.testing.assert_array_equal(found.head_index[:30], np.arange(30))
    assert found.head[:30].max() < found.head[30:].min()


def test_a_copy_of_the_reference_has_lines_too(spaces: dict[str, Space], reference: ImageSet) -> None:
    """Between an image and itself is no line: copies of R, in the set or among the real, take the others."""
    made, real = (
        reference.images[:3],
        np.concatenate([reference.images[:30], smooth_images(4, 50, seed=1).images]),
    )
    (found,) = measure(spaces["lines"], real, reference, (Candidates(made),)).tables
    xs, ss, rs = (
        spaces["lines"].candidates(part, torch.float64)[:, 0].numpy()
        for part in (real, made, reference.images)
    )
    q = np.zeros((len(real), 3))
    for (row, column), _ in np.ndenumerate(q):
        near = nearest_of(rs, ss[column])[1:6]  # the first is the image itself
        q[row, column] = place(xs[row], ss[column], rs[near[near != row]])
    np.testing.assert_allclose(found.head, q.min(axis=1), rtol=1e-6, atol=1e-6)


def test_strangers_alike_by_chance_on_a_line_are_apart_in_outline(
    spaces: dict[str, Space], reference: ImageSet
) -> None:
    """Far from all of R the lines run side by side, and s may lie beside x on all of them: not near it."""
    space = spaces["lines"]
    rs = space.candidates(reference.images, torch.float64)[:, 0].numpy()
    x = rs.mean(0) + 20 * np.eye(1, rs.shape[1], 3)[0]
    beside = x + 20 * np.eye(1, rs.shape[1], 5)[0]
    near = rs[nearest_of(rs, beside)[:5]]
    assert max(abs((x - beside) @ (x - r)) / ((x - r) @ (x - r)) for r in near) < 0.2
    assert place(x, beside, near) > 0.9


def test_a_shortlist_hides_no_turned_copy(
    spaces: dict[str, Space], reference: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a shortlist of 3 each turned copy is found by its source; what is not on it is not looked at."""
    monkeypatch.setattr(distances, "SHORTLIST", 3)
    images = smooth_images(30, 90, seed=1).images
    copies = make_copies(TURNED[0], images, np.arange(20), np.random.default_rng(0))
    made = np.concatenate([images[20:], copies])
    (found,) = measure(spaces["affine"], images[:20], reference, (Candidates(made),)).tables
    assert found.head_index.tolist() == [len(images) - 20 + i for i in range(20)]
    (whole,) = measure(
        replace(spaces["affine"], coarse=None), images[:20], reference, (Candidates(made),)
    ).tables
    np.testing.assert_allclose(found.head, whole.head, rtol=0.15)  # d(., R) is of the shortlist too
    assert np.isinf(found.vote_q).sum() > len(made) - 3 * 20


@pytest.mark.parametrize("width", [1, 6, 7])
def test_a_mirror_only_changes_signs(width: int) -> None:
    """Folded vectors keep every product, and those of mirrored images are the same ones with other signs."""
    x, y = torch.rand(2, 5, 3, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(folded(x) @ folded(y).T, x.flatten(1) @ y.flatten(1).T)
    torch.testing.assert_close(mirrored(folded(x)), folded(x.flip(-1)))
    np.testing.assert_array_equal(mirrored(folded(x)).abs(), folded(x).abs())


def test_rows_that_do_not_look_are_not_seen(spaces: dict[str, Space], reference: ImageSet) -> None:
    """Real images under a False neither vote nor have a distance: a holdout slice can pose as the set."""
    real = smooth_images(6, 50, seed=1).images
    rows = np.ones(len(real), bool)
    rows[:3] = False
    (found,) = measure(spaces["hp"], real, reference, (Candidates(real[:3], rows=rows),)).tables
    assert np.isinf(found.head[:3]).all()
    assert np.isfinite(found.head[3:]).all()
    assert (found.votes >= 3).all()


@pytest.mark.parametrize("name", SPACES)
def test_an_exact_copy_is_at_zero(name: str, spaces: dict[str, Space], reference: ImageSet) -> None:
    """The closest pairs are measured in float64: a copy has q below 1e-5, where float32 would say 1e-3."""
    real = smooth_images(6, 50, seed=1).images
    (found,) = measure(spaces[name], real, reference, (Candidates(real[[2]]),)).tables
    if name != "affine":  # looks for moved copies alone
        assert found.head[2] < 1e-5
    assert found.head.argmin() == 2


@pytest.mark.parametrize(
    ("rung", "seen_by"),
    [
        ("shift 2 px", "scan"),
        ("shift 2 px", "scanhp"),
        ("mirror", "scanhp"),
        ("shift, noise and contrast", "scanpca"),
        ("contrast 0.75", "pix"),
        ("rotation 4 degrees", "affine"),
        ("zoom 1.1, mirrored", "affine"),
        ("rotation 10 degrees", "affine"),
        ("zoom 1.25", "affine"),
        ("upside down", "affine"),
        ("quarter turn", "affine"),
        ("blur 1.5 px", "affine"),
        ("blend 50/50", "white"),
        ("blend 50/50", "learned"),
        ("elastic 1 px", "learned"),
        ("noise 10/255", "learned"),
        ("noise 10/255", "pca"),
    ],
)
def test_who_sees_what(rung: str, seen_by: str, spaces: dict[str, Space], reference: ImageSet) -> None:
    """Each altered copy is nearer to its source than to another image, in the space that is meant for it."""
    images = smooth_images(12, 90, seed=1).images
    alteration = next(r for r in (*LADDER, *TURNED) if r.name == rung)
    copies = make_copies(alteration, images, np.arange(8), np.random.default_rng(0))
    space = spaces[seen_by]
    own = pair_distances(space, images[:8], copies)
    others = pair_distances(space, images[np.arange(8) + 4], copies)
    assert (own < others).mean() >= 7 / 8


def test_a_pasted_window_is_at_zero(spaces: dict[str, Space]) -> None:
    """One of the nine windows that is the same is enough, whatever the rest of the image shows."""
    images = smooth_images(4, 90, seed=1).images
    pasted = images[-1:].copy()
    pasted[..., :18, :18] = images[0, :, :18, :18]  # the window and what the high-pass sees around it
    # Not quite at zero: edges bend by the whole image's median.
    assert pair_distances(spaces["patch"], images[:1], pasted)[0] < 0.02
    assert pair_distances(spaces["hp"], images[:1], pasted)[0] > 0.5


def test_kernels_are_gaussian(spaces: dict[str, Space], reference: ImageSet) -> None:
    """Kernel sums are Σ exp(-d²/2h²), h the median nearest distance between patients of R."""
    space, real, made = (
        spaces["pca"],
        smooth_images(3, 50, seed=1).images,
        smooth_images(3, 70, seed=1).images,
    )
    found = measure(space, real, reference, (Candidates(made, tail=1),), with_kernels=True)

    def encode(images: np.ndarray) -> np.ndarray:
        return space.candidates(images, torch.float64)[:, 0].numpy()

    r = encode(reference.images)
    gaps = np.linalg.norm(r[:, None] - r[None], axis=2)
    gaps[reference.patients[:, None] == reference.patients[None]] = np.inf
    h = np.median(gaps.min(1))
    expected = np.exp(-(np.linalg.norm(encode(real)[:, None] - encode(made)[None], axis=2) ** 2) / (2 * h**2))
    np.testing.assert_allclose(found.tables[0].kernel_head, expected[:, :-1].sum(1), rtol=1e-3)
    np.testing.assert_allclose(found.tables[0].kernel_tail, expected[:, -1:], rtol=1e-3)


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 20, 20), (3, 28, 28), (1, 48, 64), (3, 40, 33)]
)
def test_any_size_grey_and_colour(channels: int, height: int, width: int) -> None:
    """Each space encodes grey and RGB of any shape to finite vectors, queries as candidates."""
    images = np.random.default_rng(0).integers(0, 256, (24, channels, height, width), dtype=np.uint8)
    for space in fit_spaces(images):
        queries = space.queries(images[:2], torch.float32)
        candidates = space.candidates(images[:2], torch.float32)
        assert queries.shape[2:] == candidates.shape[1:]
        assert torch.isfinite(queries).all()
        assert torch.isfinite(candidates).all()
        assert space.moves == (queries.shape[1] > 1)


def test_constant_images_stay_finite(spaces: dict[str, Space]) -> None:
    """An image without a pattern has a unit vector too: at 0 from its like, far from any pattern."""
    flat = np.full((2, 1, 28, 28), 90, np.uint8)
    flat[1] = 30
    real = smooth_images(3, 50, seed=1).images[:2]
    for name in ("pix", "hp", "scanhp", "patch", "white"):
        assert pair_distances(spaces[name], flat[:1], flat[1:]) == pytest.approx(0, abs=1e-3)
        assert (pair_distances(spaces[name], flat, real) > 0.5).all()


def test_unit_drops_brightness_and_contrast() -> None:
    """Mean and scale have no say."""
    x = torch.rand(3, 50, dtype=torch.float64)
    torch.testing.assert_close(unit(2.5 * x + 7), unit(x))


def test_the_blur_is_scipys() -> None:
    """The Gaussian blur, mirrored at the edges, is scipy's, of images that are not square too."""
    images = torch.from_numpy(np.random.default_rng(7).random((3, 2, 12, 20)))
    expected = ndimage.gaussian_filter(images.numpy(), 1.4, axes=(2, 3), mode="mirror", radius=4)
    np.testing.assert_allclose(pictures.blurred(images, 1.4).numpy(), expected, rtol=1e-13)


def test_high_pass_of_a_slope_is_zero() -> None:
    """A blur keeps a linear slope, so that away from the edge nothing is left."""
    slope = torch.arange(28, dtype=torch.float64).expand(1, 1, 28, 28)
    assert high_pass(slope)[..., 6:-6].abs().max() < 1e-10


@pytest.mark.parametrize(
    "images", [np.zeros((2, 1, 8, 8), np.uint8), np.zeros((2, 1, 28, 28)), np.zeros((2, 28, 28))]
)
def test_unfit_images_are_refused(images: np.ndarray) -> None:
    """Tiny images, floats and missing axes raise a message."""
    with pytest.raises(ValueError, match="images are"):
        pixels(images)


def test_reference_of_one_patient_is_refused(spaces: dict[str, Space]) -> None:
    """Without a second patient there is no spacing to calibrate with."""
    one = smooth_images(40, 0, seed=1)
    one = ImageSet(one.images, one.labels, np.zeros(len(one), np.int64), one.label_names)
    with pytest.raises(ValueError, match="one patient"):
        measure(spaces["pix"], one.images, one, (Candidates(one.images[:2]),))


def test_texture_does_not_move_with_the_image() -> None:
    """Global averages: a cyclic shift changes nothing; noise and a chequerboard change much."""
    x = pixels(smooth_images(5, 0, seed=2).images)
    still = wavelet_features(x)
    np.testing.assert_allclose(wavelet_features(torch.roll(x, (4, 8), (2, 3))), still, atol=1e-3)
    board = 8 / 255 * (2 * ((torch.arange(28)[:, None] + torch.arange(28)[None]) % 2) - 1)
    assert np.abs(wavelet_features(x + board) - still).max() > 0.1
    assert still.shape[1] == 48
    assert wavelet_features(x.expand(-1, 3, -1, -1)).shape[1] == 54


def test_large_images_are_averaged_down() -> None:
    """64 px become 32 by averaging; the mean stays."""
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64), dtype=np.uint8)
    small = pixels(image)
    assert small.shape == (1, 1, 32, 32)
    assert float(small.mean()) == pytest.approx(image.mean() / 255, rel=1e-5)
    assert pictures.LARGEST_PX == 32


def test_fitting_on_training_patients_would_hide_a_leak() -> None:
    """Half of S is half a training image each. In components fitted on R training patients are nearer to S
    than holdout patients; fitted on T, whose images the components then keep whole, they are farther.
    """
    rng = np.random.default_rng(0)
    train, holdout, reference, made = rng.integers(0, 256, (4, 120, 1, 16, 16)).astype(np.uint8)
    made[:60] = made[:60] // 2 + train[:60] // 2
    p = {}
    for name, fitted_on in (("R", reference), ("T", train)):
        space = next(space for space in fit_spaces(fitted_on) if space.name == "pca")
        x, h, s = (space.candidates(images, torch.float32)[:, 0].numpy() for images in (train, holdout, made))
        own, others = nearest(x, s)[0][:, 0], nearest(h, s)[0][:, 0]
        p[name] = stats.mannwhitneyu(own, others, alternative="less").pvalue
    assert p["R"] < 0.001
    assert p["T"] > 0.05
