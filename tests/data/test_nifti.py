"""NIfTI volumes: values and orientation against nibabel, hostile headers, real and spoiled files."""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from phantomset.data.decoding.one_file import decode_file
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.pixels.nifti_volume import parse, unit_slices
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading import tree
from phantomset.data.reading.tree import read_file
from phantomset.data.records import Cohort, Rejected
from phantomset.data.source import Limits, ReadContext
from phantomset.data.sources.nifti import SOURCE, Settings
from phantomset.data.workspace import Workspace

VOXELS = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3) * 7
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _file(voxels: np.ndarray = VOXELS, affine: np.ndarray | None = LPS_TO_RAS, **fields: Any) -> bytes:
    image = nibabel.Nifti1Image(voxels, affine)
    content = bytearray(image.to_bytes())
    header = image.header.copy()
    header["vox_offset"] = 352
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    return bytes(content)


def _slices(content: bytes, window: tuple[float, float] | None = None) -> list[np.ndarray]:
    return [plane for plane, _, _ in unit_slices(parse(content, Limits()), window)]


def _code(content: bytes, limits: Limits | None = None) -> str:
    try:
        list(unit_slices(parse(content, limits or Limits()), None))
    except Unfit as unfit:
        return unfit.code
    return ""


def test_scale_and_window_by_hand() -> None:
    """value = stored * slope + intercept; a window of centre 10 and width 20 makes 0 black and 20 white."""
    content = _file(np.array([[[0, 10], [20, 30]], [[5, 15], [25, 35]]], dtype=np.int16), None)
    scaled = bytearray(content)
    scaled[112:120] = np.array([2, -10], dtype="<f4").tobytes()
    first, _ = _slices(bytes(scaled), (10, 20))
    assert first.tolist() == [[0, 0], [1, 1]]
    assert _slices(content, (10, 20))[1].tolist() == [[0.5, 0.75], [1, 1]]


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_no_slope_is_no_scaling(slope: float) -> None:
    """The format: a slope of 0 (and, as tools write it, NaN) means that values are as stored."""
    content = _file(scl_slope=slope, scl_inter=5)
    assert np.array_equal(_slices(content), _slices(_file()))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASL", "PIR", "SAL"])
def test_orientation_agrees_with_nibabel(codes: str) -> None:
    """However a volume is stored, a slice is shown as DICOM shows it, along the stored third axis."""
    canonical = nibabel.Nifti1Image(VOXELS, np.diag([2.0, 2.0, 2.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(canonical.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    stored = canonical.as_reoriented(turn)
    found = _slices(_file(np.asarray(stored.dataobj), stored.affine), (210, 420))
    axis = next(index for index, pair in enumerate(("RL", "AP", "SI")) if codes[2] in pair)
    shown = VOXELS[::-1, ::-1, ::-1] / 420
    wanted = [np.take(shown, index, axis).T for index in range(VOXELS.shape[axis])]
    assert np.allclose(found, wanted, atol=1e-6)


def test_without_orientation_slices_are_as_stored() -> None:
    """qform and sform unset: the third axis is sliced, the first runs along the columns."""
    found = _slices(_file(affine=None), (210, 420))
    assert np.allclose(found, [VOXELS[:, :, index].T / 420 for index in range(3)], atol=1e-6)


def test_nan_is_padding() -> None:
    """NaN takes no part in the percentiles and ends black; an infinite value is refused."""
    values = VOXELS.astype(np.float32)
    values[0, 0, 0] = np.nan
    assert _slices(_file(values))[-1][0, 0] == 0
    assert _slices(_file(values))[-1][0, 1:].all()
    values[0, 0, 0] = np.inf
    assert _code(_file(values)) == "NON_FINITE"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "TOO_MANY_PIXELS"),
        ({"dim": [3, 4, -5, 3, 1, 1, 1, 1]}, "INVALID_VALUE"),
        ({"dim": [0, 4, 5, 3, 1, 1, 1, 1]}, "INVALID_VALUE"),
        ({"dim": [5, 4, 5, 1, 1, 3, 1, 1]}, "DIM_UNSUPPORTED"),
        ({"dim": [3, 4, 5, 9, 1, 1, 1, 1]}, "TRUNCATED"),
        ({"dim": [4, 2, 2, 2, 30_000, 1, 1, 1]}, "TOO_MANY_FRAMES"),
        ({"datatype": 12345}, "UNSUPPORTED_PIXEL_FORMAT"),
        ({"vox_offset": np.nan}, "INVALID_VALUE"),
        ({"vox_offset": 12}, "INVALID_VALUE"),
        ({"scl_slope": np.inf}, "LUT_INVALID"),
        ({"srow_y": [0, 0, 0, 0]}, "AFFINE_INVALID"),
        ({"srow_x": [2, 0, 0, 0], "qform_code": 1}, "AFFINE_INVALID"),
        ({"srow_x": [1e-9, 0, 0, 0], "srow_y": [0, 1e9, 0, 0]}, "SPACING_INVALID"),
        ({"intent_code": 3001}, "NOT_A_VOLUME"),
        ({"intent_code": 1002}, "DERIVED_OBJECT"),
    ],
)
def test_hostile_headers_have_a_code(fields: dict[str, Any], code: str) -> None:
    """A header that lies is refused from the header, before anything of its size is allocated."""
    assert _code(_file(**fields)) == code


def test_masks_and_blanks_are_no_images() -> None:
    """Two values are a mask, one value is nothing."""
    assert _code(_file((VOXELS > 100).astype(np.uint8))) == "DERIVED_OBJECT"
    assert _code(_file(np.full_like(VOXELS, 7))) == "CONSTANT_IMAGE"


def test_cut_anywhere_has_a_code() -> None:
    """Truncated at every length, plain and gzipped: a code."""
    content = _file()
    assert all(_code(content[:length]) for length in range(len(content)))


def test_a_face_needs_consent(tmp_path: Path) -> None:
    """A volume may show a head: it is refused unless the recipe accepts that, or says what else it shows."""
    noise = np.random.default_rng(0).integers(0, 99, (9, 9, 4)).astype(np.int16)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(_file(noise)))
    assert _decoded(tmp_path, DeidentifySettings()) == {"a.nii.gz": Counter({"FACE_RISK": 1})}
    assert _decoded(tmp_path, DeidentifySettings(), body_part="other") == {"a.nii.gz": Counter({"": 4})}
    assert _decoded(tmp_path, DeidentifySettings(accept_faces=True)) == {"a.nii.gz": Counter({"": 4})}


def test_a_pair_is_one_file(tmp_path: Path) -> None:
    """Header and voxels in two files give what one file gives; a header alone is cut short."""
    image = nibabel.Nifti1Pair(VOXELS, LPS_TO_RAS)
    image.to_filename(tmp_path / "pair.hdr")
    (tmp_path / "whole.nii").write_bytes(_file())
    found = _decoded(tmp_path, DeidentifySettings(accept_faces=True), neighbour_correlation=1)
    assert found == {"pair.hdr": Counter({"": 3}), "whole.nii": Counter({"": 3})}
    (tmp_path / "pair.img").unlink()
    assert _decoded(tmp_path, DeidentifySettings(accept_faces=True))["pair.hdr"] == {"TRUNCATED": 1}


def test_real_and_spoiled_files_end_as_their_manifest_implies(datasets: Path) -> None:
    """40 files: what loads and is sound gives slices; the rest has the code of what is wrong with it."""
    folder = datasets / "nifti"
    table = pd.read_csv(folder / "manifest.csv", dtype=str).set_index("path")
    spoiled = {
        "derived/all_nan.nii.gz": "NON_FINITE",
        "derived/nan_inf_float32.nii.gz": "NON_FINITE",
        "derived/dim0_is_9.nii": "INVALID_VALUE",
        "derived/negative_dim.nii": "INVALID_VALUE",
        "derived/dim5_vector.nii.gz": "DIM_UNSUPPORTED",
        "derived/dims_lie_35TB.nii": "TOO_MANY_PIXELS",
        "derived/gzip_bitflip.nii.gz": "CHECKSUM_MISMATCH",
        "derived/gzip_ratio_1000.nii.gz": "BOMB_RATIO",
        "derived/mask_uint8.nii.gz": "DERIVED_OBJECT",
        "derived/singular_affine.nii": "AFFINE_INVALID",
        "derived/truncated_gzip.nii.gz": "TRUNCATED",
        "derived/truncated_voxels.nii": "TRUNCATED",
        "derived/unknown_datatype.nii": "UNSUPPORTED_PIXEL_FORMAT",
        "real/analyze.hdr": "NOT_RECOGNISED",
        "real/test.mgz": "NOT_RECOGNISED",
        "real/nifti1.hdr": "TRUNCATED",
        "real/nifti2.hdr": "TRUNCATED",
        "real/row_major.dconn.nii": "NOT_A_VOLUME",
    }
    found = _decoded(folder, DeidentifySettings(accept_faces=True), include="[rd]e[ar]*/*")
    assert set(found) == set(table.index) - {"derived/pair.img"}
    for name, codes in found.items():
        if name in spoiled:
            assert codes == {spoiled[name]: 1}, name
        else:
            assert codes[""] >= 2, name
            assert set(codes) <= {"", "NEIGHBOUR_THINNED", "LOW_CONTENT"}, name


def test_volumes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As other files are: a new input is hashed when it is decoded. With a pair among them, whose halves are
    decoded as one, they are hashed before. Either way the second time it is known.
    """
    folder, read = tmp_path / "in", Counter[str]()
    folder.mkdir()
    chance = np.random.default_rng(3)
    for name in ("a.nii", "b.nii"):
        (folder / name).write_bytes(_file(chance.integers(0, 999, (16, 16, 3)).astype(np.int16)))

    def counting(path: Path, *more: Any) -> bytes:
        read[path.name] += 1
        return read_file(path, *more)

    def taken() -> Cohort:
        rules = DeidentifySettings(accept_quarantined_share=1, accept_faces=True)
        return ingest(Settings(path=folder), ImageSettings(size_px=16), rules, workspace, workers=0)[0]

    workspace = Workspace.open(tmp_path / "workspace")
    monkeypatch.setattr(tree, "read_file", counting)
    first = taken()
    assert read == {"a.nii": 1, "b.nii": 1}
    pair = nibabel.Nifti1Pair(chance.integers(0, 999, (16, 16, 3)).astype(np.int16), LPS_TO_RAS)
    pair.to_filename(folder / "c.hdr")
    read.clear()
    second = taken()
    assert read == dict.fromkeys(("a.nii", "b.nii", "c.hdr", "c.img"), 2)
    assert len(second.records) == len(first.records) + 3
    monkeypatch.setattr("phantomset.data.ingest._take", None)
    assert taken() == second


def test_a_person_can_let_a_volume_in(tmp_path: Path) -> None:
    """A reviewed line with FACE_RISK, under the name that the ledger has: that file alone comes in."""
    folder = tmp_path / "in"
    folder.mkdir()
    chance = np.random.default_rng(4)
    for name in ("a.nii", "b #1.nii"):
        (folder / name).write_bytes(_file(chance.integers(0, 999, (16, 16, 3)).astype(np.int16)))
    table, name = tmp_path / "reviewed.csv", pseudonym("path", "b #1.nii")
    table.write_text(f"path,code,reviewer\n{name},FACE_RISK,data office\n")
    rules = DeidentifySettings(accept_quarantined_share=1, reviewed=table)
    workspace = Workspace.open(tmp_path / "workspace")
    cohort = ingest(Settings(path=folder), ImageSettings(size_px=16), rules, workspace, workers=0)[0]
    assert cohort.quarantine == {"FACE_RISK": 1}
    assert len(cohort.records) == 3
    (ledger,) = workspace.root.rglob("quarantine.parquet")
    assert pd.read_parquet(ledger).query("reviewer != ''")["path"].tolist() == [name]


def test_totals_reconcile_through_ingest(tmp_path: Path) -> None:
    """A sound volume of five slices of which one is blank, a copy of it, and a broken file: each slice and
    each file that is none is a record or in the quarantine.
    """
    voxels = np.random.default_rng(1).integers(0, 999, (16, 16, 5)).astype(np.int16)
    voxels[:, :, 4] = 0
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.nii").write_bytes(_file(voxels))
    (folder / "b.nii.gz").write_bytes(gzip.compress(_file(voxels)))
    (folder / "c.nii").write_bytes(_file(voxels)[:400])
    workspace = Workspace.open(tmp_path / "workspace")
    rules = DeidentifySettings(accept_quarantined_share=1, accept_faces=True)
    cohort = ingest(Settings(path=folder), ImageSettings(size_px=16), rules, workspace, workers=0)[0]
    assert cohort.quarantine == {"DUPLICATE_EXACT": 4, "LOW_CONTENT": 2, "TRUNCATED": 1}
    assert cohort.files == 11 == len(cohort.records) + sum(cohort.quarantine.values())


def _decoded(folder: Path, deidentify: DeidentifySettings, **more: Any) -> dict[str, Counter[str]]:
    settings = Settings(path=folder, **more)
    context = ReadContext(deidentify)
    tree, listed = SOURCE.files(settings, context)
    image = ImageSettings(size_px=16, fit="pad")
    found: dict[str, Counter[str]] = {}
    for each in listed:
        answer = decode_file(SOURCE, tree, each, settings, image, context)
        found[each.member.key] = Counter(
            one.item.code if isinstance(one.item, Rejected) else "" for one in answer.finished or ()
        )
    return found
