"""Phantoms as DICOM files, with the headers of invented people and the faults of a real archive.

The encoder writes explicit VR little endian and nothing else, which is what lets the demo bring thousands of
files in seconds. Source: DICOM PS3.5, 7.1 (data elements); PS3.10, 7 (file).
"""

import csv
import io
import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from phantomset.data.errors import WorkspaceError
from phantomset.data.phantoms.anatomy import FINDINGS, Array
from phantomset.data.phantoms.visits import SCANNERS, STORED_PX, Scanner, Visits
from phantomset.data.seeds import stream

_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_DX, _CR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"
_REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_WHITE = 4095
_FLOOR, _CEILING = 200, 3900
"""The window leaves room below and above, as detectors do."""

_FAULTS = 0.04
"""At most this many faults a sound file."""

_FAMILY = (
    "Abendroth Brightwater Castellanos Dragomirescu Eriksdottir Fontainebleau Grünwald Hasegawa Ivanovskaya "
    "Jørgensen Kowalczyk Lindqvist Montgomery Nguyễn Okonkwo Petrakis Quispe Rasmussen Szczepański Umarova "
    "Thorvaldsen Vasconcelos Wróblewski Xenakis Yamaguchi Zimmermann"
)
_GIVEN = {
    "F": "Adelheid Beatriz Chiara Dorothea Esperanza Fatoumata Gwendolyn Hiroko Ingeborg Josephine Katarzyna",
    "M": "Alasdair Bartholomäus Cornelius Dimitrios Emeka Friedrich Giovanni Håkon Ignacio Jerzy Konstantin",
}
_HOUSES = ("Sankt Aurelius Klinikum", "Harbour Vale Infirmary", "Hospital Santa Brígida")
_PHYSICIANS = ("Featherstone^Archibald^^Dr", "Lindenbaum^Rosalind^^Prof", "Oyelaran^Babatunde^^Dr")


@dataclass(frozen=True, slots=True)
class _Person:
    """An invented patient."""

    name: str
    number: str
    sex: str
    born: str
    age: int
    house: int
    physician: int

    @property
    def folder(self) -> str:
        """File systems of hospitals carry names; so does this one."""
        return f"{self.name.replace('^', '_')}_{self.number}"


def write_files(folder: Path, plan: Visits, units: Iterable[Array]) -> None:
    """Write the files of a plan, ``labels.csv`` and the faults.

    Args:
        folder: made if missing; must be empty.
        plan: who comes to which scanner.
        units: the pictures, in batches ``(B, 64, 64)`` in [0, 1], in the plan's order.

    Raises:
        WorkspaceError: the folder is not empty or cannot be written.
    """
    people = _people(plan)
    rows: list[tuple[str, str, str, str]] = []
    files: dict[str, bytes] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise WorkspaceError(f"phantoms: {folder} is not empty. Give a new or empty folder.")
        for index, unit in enumerate(unit for batch in units for unit in batch):
            person = people[int(plan.patients[index])]
            scanner = SCANNERS[int(plan.scanners[index])]
            name = f"{person.folder}/IMG{plan.follow_ups[index]:04d}.dcm"
            content = _file(_elements(person, scanner, plan, index), _stored(unit, scanner), scanner)
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
            rows.append((name, FINDINGS[int(plan.findings[index])], person.sex, "PA"))
            if len(files) < 4:
                files[name] = content
        rows += _write_faults(folder, files, rows, people[0])
        _write_table(folder / "labels.csv", rows)
    except OSError as error:
        raise WorkspaceError(
            f"phantoms: cannot write to {folder} ({error.strerror}). Give another folder."
        ) from None


def _people(plan: Visits) -> list[_Person]:
    count = int(plan.patients[-1]) + 1
    chance = stream(plan.seed, "phantom", "people").random((count, 8))
    people: list[_Person] = []
    for index, luck in enumerate(chance):
        sex = "F" if luck[0] < 0.5 else "M"
        name = f"{_pick(_FAMILY, luck[1])}^{_pick(_GIVEN[sex], luck[2])}"
        age = 18 + int(luck[3] * 74)
        born = f"{2023 - age}{1 + int(luck[4] * 12):02d}{1 + int(luck[5] * 28):02d}"
        # Another seed is another hospital's people: a judgement of these must not stick to those.
        number = f"PX{48_213_007 + 7919 * index + plan.seed}"
        people.append(_Person(name, number, sex, born, age, int(luck[6] * 3), int(luck[7] * 3)))
    return people


def _pick(words: str, luck: float) -> str:
    known = words.split()
    return known[int(luck * len(known))]


def _elements(person: _Person, scanner: Scanner, plan: Visits, index: int) -> dict[int, bytes]:
    """Return the encoded header of one image, by tag, all but the pixels and what describes them."""
    visit = int(plan.follow_ups[index])
    day = f"2024{1 + (index // 28) % 12:02d}{1 + index % 28:02d}"
    clock = f"{7 + index % 12:02d}{index % 60:02d}{(index * 7) % 60:02d}"
    study = _uid(plan.seed, "study", index)
    sop_class = _DX if scanner.modality == "DX" else _CR
    return _encoded(
        (0x00080005, "CS", "ISO_IR 192"),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY"),
        (0x00080012, "DA", day),
        (0x00080013, "TM", clock),
        (0x00080016, "UI", sop_class),
        (0x00080018, "UI", _uid(plan.seed, "image", index)),
        (0x00080020, "DA", day),
        (0x00080021, "DA", day),
        (0x00080022, "DA", day),
        (0x00080023, "DA", day),
        (0x00080030, "TM", clock),
        (0x00080033, "TM", clock),
        (0x00080050, "SH", f"ACC{9_100_000 + index}"),
        (0x00080060, "CS", scanner.modality),
        (0x00080068, "CS", "FOR PRESENTATION"),
        (0x00080070, "LO", scanner.maker),
        (0x00080080, "LO", _HOUSES[person.house]),
        (0x00080081, "ST", f"{12 + person.house} Lindenallee, Aureliastadt"),
        (0x00080090, "PN", _PHYSICIANS[person.physician]),
        (0x00081010, "SH", f"ROOM{scanner.model[:6]}"),
        (0x00081030, "LO", f"Thorax p.a. {person.name.partition('^')[0]}"),
        (0x00081070, "PN", "Quartermain^Philippa"),
        (0x00081090, "LO", scanner.model),
        (0x00090010, "LO", "PHANTOM HIS"),
        (0x00091001, "LO", f"{person.name} {person.born}"),
        (0x00100010, "PN", person.name),
        (0x00100020, "LO", person.number),
        (0x00100030, "DA", person.born),
        (0x00100040, "CS", person.sex),
        (0x00101010, "AS", f"{person.age:03d}Y"),
        (0x00101040, "LO", f"{1 + index % 90} Harbour Row"),
        (0x00104000, "LT", f"Control {visit} of {person.name.replace('^', ', ')}"),
        (0x00180015, "CS", "CHEST"),
        (0x00181000, "LO", f"SN{scanner.model[:3]}{scanner.field:g}"),
        (0x00185101, "CS", "PA"),
        (0x0020000D, "UI", study),
        (0x0020000E, "UI", _uid(plan.seed, "series", index)),
        (0x00200010, "SH", f"ST{index}"),
        (0x00200011, "IS", "1"),
        (0x00200013, "IS", "1"),
        (0x00200020, "CS", "L\\F"),
    )


def _stored(unit: Array, scanner: Scanner) -> Array:
    """Return 12-bit stored values that the file's own window turns back into the picture."""
    shown = 1 - unit if scanner.inverted else unit
    return np.rint(_FLOOR + shown * (_CEILING - _FLOOR)).astype("<u2")


def _file(header: dict[int, bytes], stored: Array, scanner: Scanner) -> bytes:
    """Return a whole DICOM file: preamble, file meta, header, pixels."""
    centre = (_FLOOR + _CEILING) / 2 * scanner.slope + scanner.intercept
    rows, columns = stored.shape
    described = _encoded(
        (0x00280002, "US", 1),
        (0x00280004, "CS", "MONOCHROME1" if scanner.inverted else "MONOCHROME2"),
        (0x00280010, "US", rows),
        (0x00280011, "US", columns),
        (0x00280030, "DS", "5.5\\5.5"),
        (0x00280100, "US", 16),
        (0x00280101, "US", 12),
        (0x00280102, "US", 11),
        (0x00280103, "US", 0),
        (0x00281040, "CS", "LOG"),
        # half a step is the offset of the LINEAR function, PS3.3 C.11.2.1.2
        (0x00281050, "DS", f"{centre + 0.5:g}"),
        (0x00281051, "DS", f"{(_CEILING - _FLOOR) * scanner.slope + 1:g}"),
        (0x00281052, "DS", f"{scanner.intercept:g}"),
        (0x00281053, "DS", f"{scanner.slope:g}"),
        (0x00281054, "LO", "US"),
        (0x20500020, "CS", "INVERSE" if scanner.inverted else "IDENTITY"),
        (0x7FE00010, "OW", stored.tobytes()),
    )
    return _with_meta(header | described)


def _with_meta(elements: dict[int, bytes]) -> bytes:
    """Put preamble and file meta before a data set."""
    sop_class, instance = elements[0x00080016][8:], elements[0x00080018][8:]
    meta = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"),
            _element(0x00020002, "UI", sop_class),
            _element(0x00020003, "UI", instance),
            _element(0x00020010, "UI", _EXPLICIT_LITTLE),
            _element(0x00020012, "UI", "2.25.302014583512460123456789"),
        )
    )
    body = b"".join(content for _, content in sorted(elements.items()))
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<L", len(meta))) + meta + body


def _encoded(*elements: tuple[int, str, str | int | bytes]) -> dict[int, bytes]:
    return {tag: _element(tag, kind, value) for tag, kind, value in elements}


def _element(tag: int, kind: str, value: str | int | bytes) -> bytes:
    """Encode one element; values are padded to even length, as PS3.5, 6.2 says."""
    content = struct.pack("<H", value) if isinstance(value, int) else value
    content = content.encode() if isinstance(content, str) else content
    if len(content) % 2:
        content += b"\0" if kind in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    return (
        head
        + struct.pack("<HL" if kind in _LONG else "<H", *([0] if kind in _LONG else []), len(content))
        + content
    )


def _uid(seed: int, *names: str | int) -> str:
    text = ":".join(map(str, (seed, *names)))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'phantom:{text}').int}"


def _write_faults(
    folder: Path, sound: dict[str, bytes], rows: list[tuple[str, str, str, str]], person: _Person
) -> list[tuple[str, str, str, str]]:
    """Write what ingest must keep out, and return the rows of the label table that go with it.

    A small cohort gets the first few only, or ingest would rightly refuse it as a whole.
    """
    labels = {name: finding for name, finding, _, _ in rows[: len(sound)]}
    (first, content), (last, other) = next(iter(sound.items())), list(sound.items())[-1]
    faults = {
        "incoming/burned_in.dcm": (_burned_in(content, person), FINDINGS[0]),
        f"incoming/copy_of_{person.folder}.dcm": (content, labels[first]),
        "incoming/broken_1.dcm": (other[: len(other) - 3000], FINDINGS[0]),
        "incoming/no_patient.dcm": (_replaced(other, 0x00100020, "LO", ""), FINDINGS[0]),
        "incoming/report.dcm": (_report(content, person), FINDINGS[0]),
        "incoming/no_label.dcm": (_shifted(content), None),
        "incoming/notes.dcm": (f"call back {person.name}, {person.born}\n".encode() * 20, FINDINGS[0]),
        "incoming/empty.dcm": (b"", FINDINGS[0]),
        "incoming/broken_2.dcm": (content[:700], FINDINGS[0]),
        "incoming/preview.dcm": (_preview(), FINDINGS[0]),
        "incoming/copy.dcm": (other, labels[last]),
    }
    (folder / "incoming").mkdir()
    extra: list[tuple[str, str, str, str]] = []
    for name, (broken, finding) in list(faults.items())[: int(_FAULTS * len(rows))]:
        (folder / name).write_bytes(broken)
        if finding is not None:
            extra.append((name, finding, person.sex, "PA"))
    return extra


def _replaced(content: bytes, tag: int, kind: str, value: str | bytes) -> bytes:
    """Return a file with one element's value replaced, or put in where it was not."""
    elements = _split(content)
    elements[tag] = _element(tag, kind, value)
    return _with_meta(elements)


def _split(content: bytes) -> dict[int, bytes]:
    """Cut a file of this encoder back into its elements."""
    place = 144 + struct.unpack("<L", content[140:144])[0]
    elements: dict[int, bytes] = {}
    while place < len(content):
        group, number, kind = struct.unpack("<HH2s", content[place : place + 6])
        long = kind.decode() in _LONG
        length = struct.unpack(
            "<L" if long else "<H", content[place + (8 if long else 6) :][: 4 if long else 2]
        )[0]
        end = place + (12 if long else 8) + length
        elements[group << 16 | number] = content[place:end]
        place = end
    return elements


def _pixels(content: bytes) -> Array:
    return np.frombuffer(_split(content)[0x7FE00010][12:], dtype="<u2").reshape(STORED_PX, STORED_PX)


def _shifted(content: bytes) -> bytes:
    """The same picture with other grain, so that it is no exact copy."""
    return _replaced(
        content, 0x7FE00010, "OW", np.clip(_pixels(content) + 40, 0, _WHITE).astype("<u2").tobytes()
    )


def _burned_in(content: bytes, person: _Person) -> bytes:
    """The patient's name in the picture, and a header that says so."""
    page = Image.new("L", (STORED_PX, STORED_PX))
    ImageDraw.Draw(page).text((1, 50), person.name.partition("^")[0], fill=255)
    marked = np.where(np.asarray(page) > 96, _WHITE, _pixels(content)).astype("<u2")
    return _replaced(_replaced(content, 0x7FE00010, "OW", marked.tobytes()), 0x00280301, "CS", "YES")


def _report(content: bytes, person: _Person) -> bytes:
    """A structured report: text, and no picture."""
    elements = {
        tag: value for tag, value in _split(content).items() if tag >> 16 not in (0x0028, 0x2050, 0x7FE0)
    }
    elements.update(
        _encoded(
            (0x00080016, "UI", _REPORT),
            (0x00080060, "CS", "SR"),
            (0x0040A040, "CS", "TEXT"),
            (0x0040A160, "UT", f"{person.name.replace('^', ', ')}: no change."),
        )
    )
    return _with_meta(elements)


def _preview() -> bytes:
    """A picture of another kind under a DICOM name."""
    buffer = io.BytesIO()
    Image.new("L", (16, 16), 90).save(buffer, "PNG")
    return buffer.getvalue()


def _write_table(path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "finding", "sex", "view"))
        writer.writerows(sorted(rows))
