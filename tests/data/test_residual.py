"""The residual scan: finds a leak in any form, is not fooled by digests or chance, knows when it is blind."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from phantomset.data.errors import BAD_INPUT, ResidualHit
from phantomset.data.residual import canaries
from phantomset.data.residual import scan as residual
from phantomset.data.residual.files import batches, read
from phantomset.data.residual.scan import Area, Hit, prove, scan, search
from phantomset.data.residual.tokens import Tokens
from phantomset.data.residual.vocabulary import program_words, words_of

Make = Callable[..., bytes]


def _tokens(content: bytes, name: str = "x.dcm") -> Tokens:
    tokens = Tokens()
    read(content, name, frozenset(), tokens)
    return tokens


def _found(tokens: Tokens, content: bytes, **options: object) -> list[Hit]:
    area = Area("a", content, options.get("kind", "text"), bool(options.get("has_clock")))  # type: ignore[arg-type]
    return search(tokens, [area], words_of([str(options.get("known", ""))]))


def test_it_proves_itself() -> None:
    """A hundred places, in up to five forms each, all found: headers, names, tables, pictures, volumes."""
    prove()
    assert len({place for place, *_ in canaries.planted()}) >= 100


def test_a_blind_scan_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the search found nothing at all, the proof fails, and with it the run: exit code 2."""
    monkeypatch.setattr(residual, "search", lambda *_: [])
    with pytest.raises(ResidualHit, match=r"blind for the preamble") as caught:
        prove()
    assert caught.value.exit_code == BAD_INPUT


def test_an_alarmed_scan_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a search that finds a canary in what any run writes."""
    monkeypatch.setattr(residual, "search", lambda *_: [Hit("x", "y", 0)])
    with pytest.raises(ResidualHit, match="where there is none"):
        prove()


@pytest.mark.parametrize(
    "written",
    [b"said Quilliam,", b"QUILLIAM", b'{"x": "quilliam"}', "Quilliam".encode("utf-16-le"), b"xxQuilliamxx"],
)
def test_a_name_is_found_in_any_form(make_dicom: Make, written: bytes) -> None:
    """In any case, as UTF-16, inside a longer word."""
    (hit, *_) = _found(_tokens(make_dicom()), written)
    assert hit.origin == "(0010,0010)"


@pytest.mark.parametrize("name", ["Müllerová", "山田太郎"])
def test_a_name_is_found_in_the_escapes_of_json(name: str, make_dicom: Make) -> None:
    r"""As json writes it (ü is "\u00fc"), in any case, also where a database holds JSON as a text in JSON."""
    tokens = _tokens(make_dicom(PatientName=name, SpecificCharacterSet="ISO_IR 192"))
    for text in (name, name.upper(), name.lower()):
        once = json.dumps({"said": f"of {text}."})
        assert _found(tokens, once.encode())
        assert _found(tokens, json.dumps(once).encode())
    assert not _found(tokens, json.dumps({"said": "of Múllerová, 山田"}).encode())


@pytest.mark.parametrize(
    ("written", "finds"),
    [
        (b"20240131", True),
        (b"2024-01-31", True),
        (b"31.01.2024", True),
        (b"01/31/2024", True),
        (b"31/01/2024", True),
        (b"2024-01-31T08:15:00", False),
        (b"20240131T081500Z-run", False),
        (b"9f86d081884c7d659a2f20240131d0155ad0", False),
        (b"1202401315", False),
        (b"0.20240131", False),
    ],
)
def test_dates_in_five_layouts_and_not_the_runs_own_clock(
    make_dicom: Make, written: bytes, finds: bool
) -> None:
    """A date inside a digest or a number is none; with a clock time after it, in a log, it is the log's."""
    tokens = _tokens(make_dicom(StudyDate="20240131"))
    assert bool(_found(tokens, written, has_clock=True)) == finds


def test_words_of_the_program_are_no_evidence_alone(make_dicom: Make) -> None:
    """A description of known words is not sought; one with a name in it is, as a whole and by the name."""
    known = "chest control"
    assert not _found(_tokens(make_dicom(StudyDescription="Chest control")), b"chest control", known=known)
    tokens = _tokens(make_dicom(StudyDescription="Chest control of Brown"))
    assert _found(tokens, b"chest control of brown", known=known + " brown")
    assert not _found(tokens, b"brown", known=known + " brown")
    assert _found(tokens, b"brown", known=known)


def test_a_known_word_beside_a_name_in_another_alphabet_is_no_evidence() -> None:
    """In Latin-1: the name is sought as the bytes that it was, the known word is not."""
    tokens = Tokens()
    tokens.add_bytes("Control of Jørgensen".encode("latin-1"), "latin-1", "(0010,4000)")
    assert _found(tokens, b"configs control things", known="control") == []
    assert _found(tokens, "by Jørgensen.".encode("latin-1"), known="control") != []


def test_a_text_that_was_cut_off_amid_a_known_word(make_dicom: Make) -> None:
    """A header of 16 letters ends in "Applicat": no evidence in "application", which the program writes;
    alone, before other letters, and in a word that nobody knows, it is.
    """
    tokens = _tokens(make_dicom(SoftwareVersions="Sommerf Applicat"))
    known = "basic application profile"
    for written in (b"basic application profile", b"one\napplication", b"application"):
        assert not _found(tokens, written, known=known)
    for written in (b"applicat", b"the applicat.", b"applicationx", b"xapplication", b"applicat ion"):
        assert _found(tokens, written, known=known)


def test_the_size_of_a_file_may_stand_in_the_ledger(tmp_path: Path) -> None:
    """A manifest beside the files lists their sizes, and so does the quarantine: a size is no evidence there.
    Elsewhere it is, and so is any other number of the manifest in the ledger.
    """
    (tmp_path / "a.bin").write_bytes(bytes(123_456))
    (tmp_path / "manifest.csv").write_text("file,bytes,who\na.bin,123456,654321\n")

    def hits(name: str, content: bytes) -> int:
        return len(scan(tmp_path, lambda: [Area(name, content, "text")], []))

    assert hits("cohorts/inputs/k/quarantine.parquet", b"123456") == 0
    assert hits("cohorts/inputs/k/files.parquet", b"123456") == 1
    assert hits("cohorts/inputs/k/quarantine.parquet", b"654321") == 1


def test_short_tokens_need_boundaries_and_digests_are_none(make_dicom: Make) -> None:
    """ "Beda" is found as a word, not inside "lambeda" nor in the letters of a digest."""
    tokens = _tokens(make_dicom(PatientName="Beda"))
    assert _found(tokens, b"dear beda!")
    assert not _found(tokens, b"lambedas")
    assert not _found(tokens, b"c0ffeebeda0123456789")


def test_chance_has_no_say_in_pixels() -> None:
    """A thousand names against 4 MB of noise raise no alarm; a whole value copied into pixels does."""
    chance = np.random.default_rng(0)
    tokens = Tokens()
    for number in range(1000):
        tokens.add("".join(chance.choice(list("aeiourstln"), 5)) + str(number), "x")
    tokens.add("Mustermann-Winterhalter", "name")
    noise = chance.integers(97, 113, 4 << 20, dtype=np.uint8).tobytes()
    assert not _found(tokens, noise, kind="packed")
    (hit,) = {hit.origin for hit in _found(tokens, noise + b"mustermann-winterhalter", kind="packed")}
    assert hit == "name"


def test_long_areas_are_searched_across_the_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token over the border of two pieces is found, once."""
    monkeypatch.setattr(residual, "_PIECE", 64)
    tokens = Tokens()
    tokens.add("Quilliam", "x")
    for place in range(50, 70):
        hits = _found(tokens, b"." * place + b"quilliam" + b"." * 90)
        assert {hit.offset for hit in hits} == {place}


def test_sources_are_read_whole(tmp_path: Path, make_dicom: Make, make_png: Make) -> None:
    """Names of folders and files, undeclared columns, text chunks; a declared column may be kept."""
    (tmp_path / "in" / "Winterhalter").mkdir(parents=True)
    (tmp_path / "in" / "Winterhalter" / "Sommerfeld_1.dcm").write_bytes(make_dicom())
    (tmp_path / "in" / "labels.csv").write_text("file,label,who\na.dcm,Herbstlaub,Frostmann\n")
    (found,) = batches(tmp_path / "in", frozenset({"label"}), 10_000)
    assert {"Winterhalter", "Sommerfeld", "Quilliam", "Frostmann"} <= set(found.words)
    assert "Herbstlaub" not in found.words
    written = [Area("a", b"sommerfeld herbstlaub", "text")]
    assert {hit.origin for hit in scan(tmp_path / "in", lambda: written, [])} == {"file name", "column"}


def test_names_after_a_dot_and_before_a_slash_are_taken(tmp_path: Path) -> None:
    """ "Dr. Winterhalter" in a cell or a file's name has no suffix, and "Sommerfeld/Frostmann" is no path."""
    (tmp_path / "Dr. Quorndale").write_bytes(b"")
    cells = 'file,who\na.png,Dr. Winterhalter\nb.png,Sommerfeld/Frostmann\nc.png,"Herbstlaub, J."\n'
    (tmp_path / "list.csv").write_text(cells)
    (found,) = batches(tmp_path, frozenset(), 10_000)
    assert {"Quorndale", "Winterhalter", "Sommerfeld", "Frostmann", "Herbstlaub"} <= set(found.words)


def test_an_input_of_any_size_is_read_in_batches(tmp_path: Path, make_dicom: Make) -> None:
    """Tokens are handed over before they fill memory; none is missed."""
    for number in range(9):
        (tmp_path / f"f{number}.dcm").write_bytes(make_dicom(PatientName=f"Quorndale{number}x"))
    parts = list(batches(tmp_path, frozenset(), 8))
    assert len(parts) > 2
    assert {f"Quorndale{number}x" for number in range(9)} <= {word for part in parts for word in part.words}


def test_no_bytes_make_the_reader_fail(make_dicom: Make) -> None:
    """Cut anywhere, and one byte flipped anywhere: tokens or none, no error, no endless loop."""
    content = make_dicom(StudyDescription="Something", ReferringPhysicianName="Quorndale")
    for place in range(len(content)):
        _tokens(content[:place])
        broken = bytearray(content)
        broken[place] ^= 0xFF
        _tokens(bytes(broken))


def test_no_packed_bytes_make_the_reader_fail(make_dicom: Make) -> None:
    """A deflated data set, cut and with any byte flipped: no error, and what stands before the damage."""
    content = make_dicom(syntax=DeflatedExplicitVRLittleEndian, ReferringPhysicianName="Quorndale")
    start = 144 + int.from_bytes(content[140:144], "little")  # after the file meta, by its group length
    assert "Quorndale" in _tokens(content).words
    for place in range(start, len(content)):
        _tokens(content[:place])
        broken = bytearray(content)
        broken[place] ^= 0xFF
        _tokens(bytes(broken))
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    late = bytearray(make_dicom(noise, DeflatedExplicitVRLittleEndian, ReferringPhysicianName="Quorndale"))
    late[-64:] = bytes(64)
    assert "Quorndale" in _tokens(bytes(late)).words


def test_what_may_not_be_read_has_a_name(tmp_path: Path, make_dicom: Make) -> None:
    """A file and a folder that are closed to this user end no scan; what the file is called is sought."""
    closed = tmp_path / "closed"
    closed.mkdir()
    for name in ("Winterhalter.dcm", "closed/Sommerfeld.dcm"):
        (tmp_path / name).write_bytes(make_dicom())
    (tmp_path / "Winterhalter.dcm").chmod(0)
    closed.chmod(0)
    code = (
        "import os, sys; from pathlib import Path; from phantomset.data.residual.files import batches\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "(found,) = batches(Path(sys.argv[1]), frozenset(), 1000); print(*found.words)"
    )
    for folder in (tmp_path, *tmp_path.parents[:3]):  # a worker's folders lie one deeper
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    closed.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["Winterhalter"]


def test_a_label_table_outside_the_source_is_read(tmp_path: Path) -> None:
    """Its undeclared columns are sought, wherever the table lies; its own name is no file's."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    for table in (tmp_path / "rows.txt", Path("../rows.txt")):
        (tmp_path / "rows.txt").write_text("file,label,who\na.png,Herbstlaub,Frostmann\n")
        (found,) = batches(tmp_path / "in", frozenset({"label"}), 10_000, table)
        assert set(found.words) == {"Frostmann"}
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("rows.txt", "file,who\na.png,Winterhalter\n")
    (found,) = batches(tmp_path / "in.zip", frozenset(), 10_000, Path("rows.txt"))
    assert set(found.words) == {"rows", "Winterhalter"}


def _volume(**fields: str) -> bytes:
    """A NIfTI-1 file with an extension, by nibabel."""
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4))
    for name, value in fields.items():
        image.header[name] = value
    image.header.extensions.append(Nifti1Extension("comment", b"Sommerfeld was here"))
    return image.to_bytes()


def _picture(form: str, **options: Any) -> bytes:
    """A picture, by Pillow."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((512, 512), dtype=np.uint8)).save(stream, form, **options)
    return stream.getvalue()


def test_headers_that_other_libraries_wrote_are_read() -> None:
    """PNG, JPEG and TIFF by Pillow, NIfTI-1 and -2 by nibabel, gzip by Python: each text is found."""
    text = PngInfo()
    text.add_text("Author", "Winterhalter", zip=True)
    text.add_itxt("Comment", "Müßigbrodt", zip=True)
    pages = [Image.fromarray(np.ones((300, 300), dtype=np.uint8))] * 2
    second = nibabel.Nifti2Image(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4))
    second.header["descrip"], second.header["intent_name"] = "Quorndale", "Frostmann"
    for content, expected in (
        (_picture("PNG", pnginfo=text), {"Winterhalter", "Müßigbrodt"}),
        (_picture("JPEG", comment=b"Winterhalter", progressive=True), {"Winterhalter"}),
        (
            _picture("TIFF", tiffinfo={270: "Winterhalter"}, append_images=pages, save_all=True),
            {"Winterhalter"},
        ),
        (_volume(descrip="Quorndale", intent_name="Frostmann"), {"Quorndale", "Frostmann", "Sommerfeld"}),
        (gzip.compress(_volume(aux_file="Quorndale")), {"Quorndale", "Sommerfeld"}),
        (second.to_bytes(), {"Quorndale", "Frostmann"}),
    ):
        assert expected <= set(_tokens(content, "x.bin").words)


@pytest.mark.parametrize("seed", range(4))
def test_no_damaged_file_makes_the_reader_fail(seed: int) -> None:
    """Every canary's file, cut and with bytes changed at random: no error, no endless loop."""
    chance = np.random.default_rng(seed)
    for _, name, content, _ in canaries.planted():
        for _ in range(40):
            broken = np.frombuffer(content[: chance.integers(len(content) + 1)], dtype=np.uint8).copy()
            if len(broken):
                places = chance.integers(min(len(broken), 400), size=4)
                broken[places] = chance.choice([0, 1, 127, 128, 255, chance.integers(256)], 4)
            _tokens(broken.tobytes(), name)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "written",
    ["Lewis^Richardson", "lewis richardson", "Richardson Lewis", "LEWIS, RICHARDSON", "lewis_richardson"],
)
def test_a_name_of_known_words_is_sought_as_a_whole(make_dicom: Make, written: str, syntax: str) -> None:
    """Each word alone may be found; the two together may not, unless the program itself writes them so."""
    tokens = _tokens(make_dicom(syntax=syntax, PatientName="Lewis^Richardson", PatientID="AB-12-3"))
    known = "lewis after richardson"
    assert _found(tokens, written.encode(), known=known)
    assert _found(tokens, f"of {written}!".encode("utf-16-le"), known=known)
    assert _found(tokens, b"id: ab-12-3", known=known)
    assert not _found(tokens, b"lewis, and richardson", known=known)
    area = [Area("a", written.encode(), "text")]
    assert search(tokens, area, words_of([known]), (), f"notes by {written.lower()}") == []


def test_the_vocabulary_is_what_the_program_writes() -> None:
    """Keys, codes and words of notes are in it; people cited or invented are not."""
    words = program_words()
    assert words >= {"modality", "manufacturer", "echotime", "echo", "quarantine", "patients", "completed"}
    assert words.isdisjoint(
        {"lewis", "richardson", "lopez", "young", "hill", "wilson", "gray", "heusel", "zephyrine"}
    )
    assert len(words) < 3000


def test_small_numbers_are_no_evidence_whatever_their_sign() -> None:
    """A rescale intercept of -1024 in a column is none of a patient's; a number of six digits may be one."""
    tokens = Tokens()
    for number in ("-1024", "54321", "0.5000", "123456", "-1234.56"):
        tokens.add(number, "column")
    assert not _found(tokens, b"'-1024' '54321' '0.5000'")
    assert len(_found(tokens, b"'123456' '-1234.56'")) == 2


def test_a_palette_is_no_text(make_dicom: Make) -> None:
    """A ramp reads as an alphabet, at 16 bits in UTF-16, and stands in many pictures; a name there counts."""
    names = {"Sommerfeld"}
    for ramp in (np.arange(256, dtype="<u2"), np.arange(256, dtype="u1"), np.full(64, 200, "u1")):
        plain = _tokens(make_dicom())
        tokens = _tokens(make_dicom(RedPaletteColorLookupTableData=ramp.tobytes()))
        assert tokens.words.keys() - plain.words.keys() == set()
        tokens = _tokens(make_dicom(RedPaletteColorLookupTableData=b"\0\0Sommerfeld" + bytes(52)))
        assert tokens.words.keys() - plain.words.keys() == names
