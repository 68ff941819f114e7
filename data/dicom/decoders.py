"""Which library decodes which DICOM transfer syntax; all of them permissively licensed.

Native, deflated and big-endian pixels need pydicom alone. JPEG 2000, HTJ2K and RLE come through pydicom's own
plugins. JPEG in every process (baseline, 12 bit, progressive, lossless) and JPEG-LS come through imagecodecs,
which this module offers to pydicom as one more plugin: pydicom finds the frames and applies the sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata, util
from typing import Any

import numpy as np
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import UID

from phantomset.data.quarantine.ledger import Unfit

_JPEG = ("50", "51", "53", "55", "57", "70")
_JPEG_LS = ("80", "81")
_PREFIX = "1.2.840.10008.1.2.4."


@dataclass(frozen=True, slots=True)
class Codec:
    """A family of compressed transfer syntaxes, and what decodes it.

    Attributes:
        name: as people call it.
        modules: what must be importable.
        packages: what installs them.
        plugin: the name under which pydicom knows the decoder.
        syntaxes: the transfer syntax UIDs.
    """

    name: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    plugin: str
    syntaxes: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        """True where every module can be imported."""
        return all(util.find_spec(module) is not None for module in self.modules)

    @property
    def versions(self) -> tuple[str, ...]:
        """Package and version of each part: lossy JPEG is not equal to the bit across decoders."""
        return tuple(f"{package} {metadata.version(package)}" for package in self.packages)


CODECS = (
    Codec("JPEG", ("imagecodecs",), ("imagecodecs",), "imagecodecs", tuple(_PREFIX + end for end in _JPEG)),
    Codec(
        "JPEG-LS", ("imagecodecs",), ("imagecodecs",), "imagecodecs", tuple(_PREFIX + end for end in _JPEG_LS)
    ),
    Codec(
        "JPEG 2000 and HTJ2K",
        ("pylibjpeg", "openjpeg"),
        ("pylibjpeg", "pylibjpeg-openjpeg"),
        "pylibjpeg",
        tuple(_PREFIX + end for end in ("90", "91", "201", "202", "203")),
    ),
    Codec("RLE", ("pylibjpeg", "rle"), ("pylibjpeg", "pylibjpeg-rle"), "pylibjpeg", ("1.2.840.10008.1.2.5",)),
)
"""Every family of compressed syntaxes that is taken in."""


def decoder_for(syntax: str) -> tuple[Decoder, str]:
    """Return pydicom's decoder of a transfer syntax and the plugin to use; no plugin for native pixels.

    Raises:
        Unfit: UNSUPPORTED_TRANSFER_SYNTAX or DECODER_MISSING.
    """
    uid = UID(syntax)
    codec = next((codec for codec in CODECS if syntax in codec.syntaxes), None)
    if codec is not None:
        if not codec.is_installed:
            raise Unfit("DECODER_MISSING")
        return (_with_imagecodecs(uid) if codec.plugin == "imagecodecs" else get_decoder(uid)), codec.plugin
    if uid.is_transfer_syntax and not uid.is_private and not uid.is_encapsulated:
        return get_decoder(uid), ""
    raise Unfit("UNSUPPORTED_TRANSFER_SYNTAX")


@cache
def decoder_versions() -> tuple[str, ...]:
    """Return the packages that decode, with their versions, sorted: part of what names a decoded file."""
    parts = [version for codec in CODECS if codec.is_installed for version in codec.versions]
    return tuple(sorted({*parts, *(f"{name} {metadata.version(name)}" for name in ("pydicom", "pillow"))}))


@lru_cache
def _with_imagecodecs(uid: UID) -> Decoder:
    """A decoder of our own, with this module as its plugin: pydicom's registry stays as it is."""
    decoder = Decoder(uid)
    decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))
    return decoder


# What pydicom asks of a module that is a decoding plugin.
DECODER_DEPENDENCIES: Mapping[str, tuple[str, ...]] = {
    UID(syntax): ("imagecodecs",)
    for codec in CODECS
    if codec.plugin == "imagecodecs"
    for syntax in codec.syntaxes
}


def is_available(uid: str) -> bool:
    """Return whether this plugin decodes a transfer syntax here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES and util.find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Return the stored components of one JPEG or JPEG-LS frame; pydicom calls it.

    No colour is converted here: what the components are is told to pydicom, which converts once.
    """
    import imagecodecs

    if runner.transfer_syntax in DECODER_DEPENDENCIES and str(runner.transfer_syntax)[-2:] in _JPEG_LS:
        stored: Any = imagecodecs.jpegls_decode(source)
    else:
        # the same space in and out, whichever: the decoder then converts nothing
        space = "YCBCR" if runner.samples_per_pixel == 3 else None
        stored = imagecodecs.jpeg8_decode(source, colorspace=space, outcolorspace=space)
        transform = _adobe_transform(source)
        if runner.samples_per_pixel == 3 and transform is not None:
            told = PhotometricInterpretation.YBR_FULL if transform == 1 else PhotometricInterpretation.RGB
            runner.set_option("photometric_interpretation", told)
    wanted = (runner.rows, runner.columns, *((3,) if runner.samples_per_pixel == 3 else ()))
    if stored.shape != wanted:
        raise ValueError("the codestream's size is not the header's")
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", stored.dtype.itemsize * 8)
    return bytearray(np.ascontiguousarray(stored).data)


def _adobe_transform(source: bytes) -> int | None:
    """The colour transform of an Adobe APP14 segment (0 none, 1 YCbCr), or None without one."""
    start = source.find(b"\xff\xee\x00\x0eAdobe", 0, 4096)
    return source[start + 15] if start >= 0 and len(source) > start + 15 else None
