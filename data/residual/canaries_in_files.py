"""Canaries beside the headers of DICOM: in names, tables, pictures, volumes and packed files."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

WORD = "Zephyrine"
_PNG = b"\x89PNG\r\n\x1a\n"


def in_files(dicom: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Yield a place, and the name and the bytes of a file that has `WORD` there and nowhere else.

    Args:
        dicom: a DICOM file with the word.
    """
    word = WORD.encode()
    yield "a file name", f"{WORD}.png", b""
    yield "a folder name", f"in/{WORD}/a.png", b""
    yield "a member name", "a.zip", _zipped(f"{WORD}.png")
    yield "an archive's comment", "a.zip", _zipped("a.png", b"of " + word)
    yield "a packed member", "a.zip", _zipped("a.dcm", content=dicom)
    table = f"file,label\na.png,x\nb.png,{WORD}\n".encode()
    yield "a table", "labels.csv", table
    yield "a table of another name", "labels.txt", table
    yield "a cell past the last column", "labels.csv", f"file\na.png,,{WORD}\n".encode()
    yield "a packed table", "labels.csv.gz", _gzip(table)
    yield from ((place, "a.png", content) for place, content in _in_pngs(word))
    yield "a JPEG comment", "a.jpg", jpeg(word)
    yield "a JPEG comment after the first scan", "a.jpg", jpeg(b"x", late=word)
    yield "after a JPEG's end", "a.jpg", jpeg(b"x") + word
    for order in "<>":
        yield f"a TIFF description {order}", "a.tif", _tiff(order, word)
        yield f"a TIFF's second page {order}", "a.tif", _tiff(order, b"x" * 9, word)
    yield "a TIFF author in UTF-16", "a.tif", _tiff("<", WORD.encode("utf-16-le"))
    volumes = dict(_in_volumes(word))
    yield from ((place, "a.nii", content) for place, content in volumes.items())
    yield from ((f"{place}, gzipped", "a.nii.gz", _gzip(content)) for place, content in volumes.items())
    yield "a gzip header's name", "a.nii.gz", _gzip(b"x", name=word)
    yield "a gzipped DICOM file", "a.dcm.gz", _gzip(dicom)


def jpeg(comment: bytes, late: bytes = b"") -> bytes:
    """Return what is like a JPEG stream: a comment, coded data, and maybe another comment after them."""
    scan = b"\xff\xda" + struct.pack(">H", 2) + b"\x12\xff\0\x34\xff\xd0\x56" * 999
    more = _segment(late) + scan if late else b""
    return b"\xff\xd8" + _segment(comment) + scan + more + b"\xff\xd9"


def _segment(value: bytes) -> bytes:
    return b"\xff\xfe" + struct.pack(">H", len(value) + 2) + value


def _in_pngs(word: bytes) -> Iterator[tuple[str, bytes]]:
    packed, profile = zlib.compress(word), (b"\nexif\n 9\n" + word.hex().encode())
    for place, kind, value in (
        ("PNG text", b"tEXt", b"Author\0" + word),
        ("a PNG text's keyword", b"tEXt", word + b"\0x"),
        ("PNG packed text", b"zTXt", b"Author\0\0" + packed),
        ("PNG international text", b"iTXt", b"Author\0\0\0en\0\0" + word),
        ("PNG packed international text", b"iTXt", b"Author\0\1\0en\0\0" + packed),
        ("a PNG translated keyword", b"iTXt", b"Author\0\0\0en\0" + word + b"\0x"),
        ("PNG Exif", b"eXIf", b"II*\0" + word),
        ("a PNG's raw profile", b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    ):
        yield place, _PNG + _chunk(kind, value) + _chunk(b"IEND", b"")
    yield "after a PNG's end", _PNG + _chunk(b"IEND", b"") + word


def _chunk(kind: bytes, value: bytes) -> bytes:
    return struct.pack(">L", len(value)) + kind + value + struct.pack(">L", zlib.crc32(kind + value))


def _tiff(order: str, *texts: bytes) -> bytes:
    """A TIFF file of a page a text, which lies far from both ends of the file."""
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    for number, text in enumerate(texts):
        start = len(content)
        after = start + 5018 + len(text) if number + 1 < len(texts) else 0
        content += struct.pack(order + "HHHLLL", 1, 270, 2, len(text), start + 5018, after)
        content += bytes(5000) + text
    return content + bytes(5000)


def _in_volumes(word: bytes) -> Iterator[tuple[str, bytes]]:
    extension = struct.pack("<llll", 1, 32, 6, 0) + word.ljust(20, b"\0")
    for size, places, magic, offset in (
        (348, {"descrip": 148, "aux_file": 228, "intent_name": 328}, (344, b"n+1\0"), (108, "<f")),
        (540, {"descrip": 240, "aux_file": 320, "intent_name": 508}, (4, b"n+2\0\r\n\x1a\n"), (168, "<q")),
    ):
        header = bytearray(size)
        struct.pack_into("<l", header, 0, size)
        header[magic[0] : magic[0] + len(magic[1])] = magic[1]
        struct.pack_into(offset[1], header, offset[0], size + 36)
        for name, place in places.items():
            marked = bytearray(header)
            marked[place : place + len(word)] = word
            yield f"{name} of {size} bytes", bytes(marked) + bytes(900)
        yield f"an extension of {size} bytes", bytes(header) + extension + bytes(900)
    analyze = bytearray(348)
    struct.pack_into("<l", analyze, 0, 348)
    analyze[283 : 283 + len(word)] = word
    yield "an Analyze patient", bytes(analyze)


def _gzip(content: bytes, name: bytes = b"") -> bytes:
    engine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = engine.compress(content) + engine.flush()
    return packed[:3] + b"\x08" + packed[4:10] + name + b"\0" + packed[10:] if name else packed


def _zipped(name: str, comment: bytes = b"", content: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()
