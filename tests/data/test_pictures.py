"""Picture files: formats, bit depths, and what must not come through."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from phantomset.data.pixels.pictures import Picture, unit_pictures
from phantomset.data.quarantine.ledger import CODES, Unfit
from phantomset.data.source import Limits

Make = Callable[..., bytes]
GREY = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (9, 7), dtype=np.uint16)
DEEP_COLOUR = np.random.default_rng(3).integers(0, 65536, (9, 7, 3), dtype=np.uint16)


def only_picture(content: bytes, bits: int = 16) -> Picture:
    """The only picture of a file."""
    (picture,) = unit_pictures(content, Limits(), bits)
    assert picture.total == 1
    return picture


def unit_picture(content: bytes, limits: Limits, bits: int = 16) -> np.ndarray:
    """The pixels of the only picture of a file."""
    (picture,) = unit_pictures(content, limits, bits)
    return picture.unit


def with_chunk(png: bytes, kind: bytes, value: bytes) -> bytes:
    """A PNG file with one chunk more after its first (PNG, 5.3: length, type, data, CRC)."""
    checksum = zlib.crc32(kind + value).to_bytes(4, "big")
    return png[:33] + len(value).to_bytes(4, "big") + kind + value + checksum + png[33:]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_formats_give_their_values(make_png: Make, kind: str, array: np.ndarray) -> None:
    """0 is black, 255 is 1, and nothing between is moved."""
    assert np.array_equal(unit_picture(make_png(array, kind), Limits()), array / np.float32(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_kept(make_png: Make, kind: str) -> None:
    """65535 is 1; where 12 bits are used, 4095 is."""
    assert unit_picture(make_png(DEEP, kind), Limits()) == pytest.approx(DEEP / 65535, abs=1e-7)
    twelve = make_png(DEEP >> 4, kind)
    assert unit_picture(twelve, Limits(), bits=12) == pytest.approx((DEEP >> 4) / 4095, abs=1e-7)


_TIFF: dict[str, dict[str, Any]] = {
    "plain": {},
    "LZW": {"compression": "lzw", "predictor": True},
    "big endian": {"byteorder": ">"},
    "planes": {"planarconfig": 2},
}


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("kind", ["PNG", *_TIFF])
def test_sixteen_bits_of_colour_are_kept(kind: str, alpha: bool) -> None:
    """65535 is 1 in each channel, 4095 where 12 bits are used; transparency is dropped. Pillow reads the
    upper half of the same values, so a picture of 12 bits would keep four of them.
    """
    veil = np.full((9, 7, 1), 60_000, dtype=np.uint16)

    def write(values: np.ndarray) -> bytes:
        stored = np.concatenate([values, veil], axis=2) if alpha else values
        if kind == "PNG":
            return bytes(imagecodecs.png_encode(stored))
        options = {"extrasample": 2 if alpha else None} | _TIFF[kind]
        stored = np.moveaxis(stored, 2, 0) if kind == "planes" else stored
        own = np.array(stored, order="C")  # libtiff swaps the bytes of what it is given
        return bytes(imagecodecs.tiff_encode(own, photometric="rgb", **options))

    assert unit_picture(write(DEEP_COLOUR), Limits()) == pytest.approx(DEEP_COLOUR / 65535, abs=1e-7)
    twelve = DEEP_COLOUR >> 4
    assert unit_picture(write(twelve), Limits(), bits=12) == pytest.approx(twelve / 4095, abs=1e-7)
    if kind != "planes":  # Pillow misreads them
        shown = np.asarray(Image.open(io.BytesIO(write(DEEP_COLOUR))))[..., :3]
        assert np.array_equal(shown, DEEP_COLOUR >> 8)


def test_sixteen_bits_of_grey_with_transparency_are_kept() -> None:
    """Grey and alpha, which Pillow reads as colour of 8 bits."""
    stored = np.dstack([DEEP, np.full_like(DEEP, 60_000)])
    found = only_picture(bytes(imagecodecs.png_encode(stored)))
    assert found.unit == pytest.approx(DEEP / 65535, abs=1e-7)
    assert found.passed_over == {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colour_is_turned_as_exif_says(orientation: int, make_png: Make) -> None:
    """Against Pillow, which turns the same picture of 8 bits."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    chunk = exif.tobytes().removeprefix(b"Exif\0\0")
    eight = make_png((DEEP_COLOUR >> 8).astype(np.uint8), exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(eight))))
    found = unit_picture(with_chunk(bytes(imagecodecs.png_encode(DEEP_COLOUR)), b"eXIf", chunk), Limits())
    assert np.array_equal((found * 65535 / 256 + 1e-3).astype(np.uint8), wanted)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_colour_profile_is_dropped_and_counted(kind: str, make_png: Make) -> None:
    """The pixels are those of the same picture without it; grey in colour is counted as well."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged_file = make_png(COLOUR, kind, icc_profile=profile)
    plain, tagged = only_picture(make_png(COLOUR, kind)), only_picture(tagged_file)
    assert np.array_equal(plain.unit, tagged.unit)
    assert (plain.passed_over, tagged.passed_over) == ({}, {"colour profiles": 1})
    if kind == "TIFF":  # a second page has none
        pages = imagecodecs.tiff_encode(COLOUR.copy(), photometric="rgb", appendto=tagged_file)
        assert [page.passed_over for page in unit_pictures(bytes(pages), Limits())] == [
            tagged.passed_over,
            {},
        ]
    repeated = only_picture(make_png(np.repeat(GREY[..., None], 3, axis=2)))
    assert repeated.passed_over == {"colours that are all grey, made one channel": 1}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(0x4D424544, {"colour profiles": 1}), (0x4C494E4B, {"colour profiles": 1}), (0x73524742, {})],
    ids=["MBED", "LINK", "sRGB"],
)
def test_a_colour_profile_in_a_bmp_of_version_5(kind: int, expected: dict[str, int], make_png: Make) -> None:
    """Embedded or linked it is dropped and counted; a colour space by name is none. The header is that of
    wingdi.h: 40 bytes as ever, masks, the kind at 56, the profile's place and size at 112.
    """
    plain, profile = make_png(COLOUR, "BMP"), b"a profile"
    info = bytearray(plain[14:54].ljust(124, b"\0"))
    struct.pack_into("<I", info, 0, 124)
    struct.pack_into("<I", info, 56, kind)
    struct.pack_into("<II", info, 112, 124 + len(plain[54:]), len(profile))
    size = 14 + len(info) + len(plain[54:]) + len(profile)
    head = struct.pack("<2sIHHI", b"BM", size, 0, 0, 14 + len(info))
    found = only_picture(head + bytes(info) + plain[54:] + profile)
    assert found.passed_over == expected
    assert np.array_equal(found.unit, only_picture(plain).unit)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero(make_png: Make, dtype: type) -> None:
    """PhotometricInterpretation 0 at either depth: the stored 0 is white, the largest value black."""
    most = np.iinfo(dtype).max
    values = np.linspace(0, most, 64).astype(dtype).reshape(8, 8)
    found = unit_picture(make_png(values, "TIFF", tiffinfo={262: 0}), Limits())
    stored = values if dtype is np.uint16 else most - values  # Pillow turns 8 bits when it writes, too
    assert found == pytest.approx(1 - stored / most, abs=1e-6)


def test_a_checksum_of_a_png_that_does_not_hold(make_png: Make) -> None:
    """Each chunk's CRC-32 is held, also that of the pixels, which Pillow does not look at."""
    content = bytearray(make_png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    start = content.index(b"IDAT") - 4
    end = start + 8 + int.from_bytes(content[start : start + 4], "big")
    assert Image.open(io.BytesIO(content)).load() is not None
    content[end] ^= 1
    assert Image.open(io.BytesIO(content)).load() is not None
    with pytest.raises(Unfit, match="CHECKSUM_MISMATCH"):
        unit_picture(bytes(content), Limits())


def test_jpeg_is_close(make_png: Make) -> None:
    """Lossy at quality 100: within a few grey levels of a smooth picture."""
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    assert unit_picture(make_png(smooth, "JPEG", quality=100), Limits()) == pytest.approx(
        smooth / 255, abs=0.02
    )


def test_grey_in_colour_is_one_channel(make_png: Make) -> None:
    """Three equal channels carry no colour."""
    repeated = np.repeat(GREY[..., None], 3, axis=2)
    assert np.array_equal(unit_picture(make_png(repeated), Limits()), GREY / np.float32(255))


def test_palette_one_bit_and_transparency() -> None:
    """A palette is looked up; one bit is black and white; transparency is dropped, not blended."""
    for picture, expected in (
        (
            Image.fromarray(COLOUR).quantize(256),
            np.asarray(Image.fromarray(COLOUR).quantize(256).convert("RGB")),
        ),
        (Image.fromarray(GREY).convert("1"), np.asarray(Image.fromarray(GREY).convert("1")) * np.uint8(255)),
        (Image.fromarray(np.dstack([COLOUR, GREY])), COLOUR),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        assert np.array_equal(unit_picture(buffer.getvalue(), Limits()), expected / np.float32(255))


def test_exif_orientation_is_applied() -> None:
    """Orientation 6 means that the camera was turned: shown, row 0 is the stored first column read
    upwards.
    """
    smooth = np.zeros((16, 32), dtype=np.uint8)
    smooth[:, 16:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", exif=exif, quality=100)
    shown = unit_picture(buffer.getvalue(), Limits())
    assert shown.shape == (32, 16)
    assert shown[:14].max() < 0.1
    assert shown[18:].min() > 0.7


def test_text_in_a_picture_changes_nothing() -> None:
    """Chunks with a name in them are dropped: the picture is the same."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Canary^Quilliam")
    info.add_itxt("Comment", "born 1954", zip=True)
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG", pnginfo=info)
    assert np.array_equal(unit_picture(buffer.getvalue(), Limits()), GREY / np.float32(255))


def test_every_page_of_a_tiff_is_a_picture() -> None:
    """The pages come in their order, each with the number of all; more than the limit are refused."""
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    first, second = unit_pictures(buffer.getvalue(), Limits())
    assert np.array_equal(first.unit, GREY / np.float32(255))
    assert np.array_equal(second.unit, (255 - GREY) / np.float32(255))
    assert first.total == second.total == 2
    with pytest.raises(Unfit, match="TOO_MANY_FRAMES"):
        list(unit_pictures(buffer.getvalue(), Limits(frames=1)))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "EMPTY_FILE"),
        (b"GIF89a" + bytes(50), "NOT_RECOGNISED"),
        (b"<svg></svg>", "NOT_RECOGNISED"),
        (b"%PDF-1.4", "NOT_RECOGNISED"),
        (b"PK\x03\x04", "NOT_RECOGNISED"),
        (b"\xff\xd8\xff" + bytes(50), "PARSE_ERROR"),
    ],
)
def test_other_kinds_are_told_by_content(content: bytes, code: str) -> None:
    """A suffix makes no picture; formats that are not asked for are not opened."""
    with pytest.raises(Unfit, match=code):
        unit_picture(content, Limits())


def test_colour_models_that_have_no_screen_are_refused() -> None:
    """CMYK and floats have no agreed way to grey."""
    for picture, kind in ((Image.new("CMYK", (4, 4)), "JPEG"), (Image.new("F", (4, 4)), "TIFF")):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        with pytest.raises(Unfit, match="UNSUPPORTED_PIXEL_FORMAT"):
            unit_picture(buffer.getvalue(), Limits())


def test_too_many_pixels_are_refused_unread() -> None:
    """A PNG of a few hundred bytes that claims 40,000 x 40,000 is refused from its header."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = (40_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(Unfit, match="TOO_MANY_PIXELS"):
        unit_picture(bytes(content), Limits())


@pytest.mark.parametrize(
    ("kind", "pages", "mode"), [("PNG", 1, "L"), ("TIFF", 1, "L"), ("TIFF", 3, "L"), ("PNG", 1, "I;16")]
)
def test_what_swells_two_hundred_times_is_refused_unread(kind: str, pages: int, mode: str) -> None:
    """Over 16 MiB of pixels and over 200 times the file is a bomb, in one page or in all of them together."""
    side = 4200 if (pages, mode) == (1, "L") else 3000  # of two bytes, or three pages: fewer are enough
    blank = Image.new(mode, (side, side))
    buffer, options = io.BytesIO(), {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    more = {"save_all": True, "append_images": [blank] * (pages - 1)} if kind == "TIFF" else {}
    blank.save(buffer, kind, **options, **more)
    with pytest.raises(Unfit, match="BOMB_RATIO"):
        list(unit_pictures(buffer.getvalue(), Limits()))
    unlimited = Limits(expansion=20_000)
    assert len(list(unit_pictures(buffer.getvalue(), unlimited))) == pages


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_cut_or_flipped_anywhere(make_png: Make, kind: str) -> None:
    """Truncated or with one byte changed: a code or a picture, never another error; cut in half, never a
    picture.
    """
    content = make_png(np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8), kind)
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        for broken in (content[:place], bytes(flipped)):
            try:
                assert all(np.isfinite(each.unit).all() for each in unit_pictures(broken, Limits()))
            except Unfit as unfit:
                assert unfit.code in CODES
    with pytest.raises(Unfit):
        unit_picture(content[: len(content) // 2], Limits())
