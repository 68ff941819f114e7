"""``croissant.json``: the release described for machines, in Croissant 1.1 with RAI.

Sources: Croissant format specification 1.1 and RAI vocabulary 1.0 (MLCommons); GA4GH Data Use Ontology; W3C
PROV. The spelling of the context is that of the official validator.
"""

from pathlib import Path
from typing import Any

from phantomset.data.digest import digest_of_file
from phantomset.pipelines.draft import Draft, set_digest
from phantomset.pipelines.publisher import About
from phantomset.pipelines.redact import coarse_note
from phantomset.pipelines.report import words
from phantomset.pipelines.report.view import public_view

CROISSANT = "croissant.json"
SPDX = "https://spdx.org/licenses/"
DUO = "http://purl.obolibrary.org/obo/DUO_"
GENERAL_RESEARCH, NON_COMMERCIAL = f"{DUO}0000042", f"{DUO}0000018"
TYPES = {
    ".npz": "application/x-npz",
    ".tar": "application/x-tar",
    ".csv": "text/csv",
    ".json": "application/json",
}
PARQUET = "application/x-parquet"

_ALIASES = (
    "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty "
    "fileObject fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet "
    "references regex readLines repeated replace samplingRate sdVersion separator source subField transform "
    "unArchive value"
)


def croissant(draft: Draft, about: About, semver: str, folder: Path) -> dict[str, Any]:
    """Return the description of a release whose data files are written, as JSON-LD.

    A record is an image with its label; it is described on the Parquet files where there are some, else on
    the PNG files and their table. Other forms are listed as files.
    """
    terms: dict[str, Any] = draft.recipe.get("publish", {})
    files = _files(folder)
    dataset: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": draft.name,
        "description": _description(draft),
        "license": licence_url(about.licence),
        "url": terms.get("url") or f"urn:phantomset:{about.set_digest}",
        "creator": {"@type": "sc:Organization", "name": terms.get("creator") or "not named"},
        "datePublished": draft.created,
        "version": semver,
        "citeAs": _citation(draft, semver),
        "keywords": ["synthetic", "images", "classification", *draft.synthetic.label_names][:20],
        "isLiveDataset": False,
        "digitalSourceType": "https://schema.org/TrainedAlgorithmicMediaDigitalSource",
        "usageInfo": [
            GENERAL_RESEARCH,
            *([NON_COMMERCIAL] if "NC" in about.licence.upper().split("-") else []),
        ],
        **_provenance(draft, terms),
        **_responsible(draft),
        "distribution": files,
        "recordSet": [_classes(draft), *_records(files)],
    }
    return {key: value for key, value in dataset.items() if value not in ("", None)}


def licence_url(licence: str) -> str:
    """Return the URL of a licence by its SPDX name; other terms as they are written.

    >>> licence_url("CC-BY-4.0"), licence_url("Hospital terms 7")
    ('https://spdx.org/licenses/CC-BY-4.0.html', 'Hospital terms 7')
    """
    return f"{SPDX}{licence}.html" if licence and " " not in licence and licence[-1:].isdigit() else licence


def _description(draft: Draft) -> str:
    view = public_view(draft)
    return (
        f"A labelled synthetic image set: {len(draft.synthetic):,} images in {len(view.classes)} classes, "
        "made by a generator that was trained on real images which stay where they are. "
        f"Verdict: {view.status}. {view.sentence} {words.NOT_EVIDENCE}"
    )


def _citation(draft: Draft, semver: str) -> str:
    year = draft.created[:4] or "0000"
    return (
        f"@misc{{{draft.name}, title = {{{draft.name}: a synthetic image set}}, version = {{{semver}}}, "
        f"year = {{{year}}}, note = {{set {set_digest(draft.synthetic)[:16]}}}}}"
    )


def _provenance(draft: Draft, terms: dict[str, Any]) -> dict[str, Any]:
    owner, held = (str(terms.get(key) or "not named") for key in ("source_owner", "source_terms"))
    return {
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity",
            "prov:label": f"Real images of {owner}, kept back. Terms: {held}",
        },
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"phantomset: ingest to publish; suite {draft.verdict.suite}",
            "prov:endedAtTime": draft.created,
        },
        "prov:wasAttributedTo": {
            "@type": "prov:Agent",
            "prov:label": str(terms.get("creator") or "not named"),
        },
    }


def _responsible(draft: Draft) -> dict[str, Any]:
    """Return the RAI entries: what a user must know before use, from the draft and from nothing else."""
    notes = " ".join(map(coarse_note, draft.notes))
    return {
        "rai:dataCollection": "No data was collected: each image was drawn from a trained generative model.",
        "rai:dataCollectionType": "Synthetic data generation",
        "rai:dataPreprocessingProtocol": "Real images were de-identified by an allow-list, brought "
        f"to one size and to 8 bits, and shared out by patient before training. {notes}".strip(),
        "rai:dataAnnotationProtocol": "Each image was made for its label; nobody has looked at each image.",
        "rai:machineAnnotationTools": ["phantomset"],
        "rai:personalSensitiveInformation": words.LIMITS,
        "rai:dataBiases": "What is rare in the source is rarer still in a synthetic set, and "
        "whatever bias the source had is here too.",
        "rai:dataLimitations": words.NOT_EVIDENCE,
        "rai:dataUseCases": "Research and development of image models where the real images may not go.",
        "rai:dataSocialImpact": "Images look real and are not; every file says that a model made it.",
        "rai:dataReleaseMaintenancePlan": "A version never changes; a signed list names those taken back.",
    }


def _files(folder: Path) -> list[dict[str, Any]]:
    """Return the distribution: data files with their SHA-256; trees of PNG and DICOM files as sets."""
    objects = [
        *sorted(folder.glob("*.npz")),
        *sorted(folder.glob("shards/*.tar")),
        *sorted(folder.glob("data/*.parquet")),
        *sorted(folder.glob("datalist.json")),
        *sorted(folder.glob("images/**/metadata.csv")),
        *sorted(folder.glob("dicom/**/metadata.csv")),
    ]
    found = [_file(path, path.relative_to(folder).as_posix()) for path in objects]
    for name, kind, pattern in (
        ("data-files", PARQUET, "data/*.parquet"),
        ("images-files", "image/png", "images/**/*.png"),
        ("images-tables", "text/csv", "images/*/metadata.csv"),
        ("dicom-files", "application/dicom", "dicom/**/*.dcm"),
    ):
        if any(folder.glob(pattern)):
            found.append(
                {
                    "@type": "cr:FileSet",
                    "@id": name,
                    "name": name,
                    "encodingFormat": kind,
                    "includes": pattern,
                }
            )
    return found


def _file(path: Path, name: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": TYPES.get(path.suffix, PARQUET),
        "sha256": digest_of_file(path),
    }


def _classes(draft: Draft) -> dict[str, Any]:
    """Return the classes as an enumeration: index and name."""
    rows = [
        {"classes/index": index, "classes/name": name}
        for index, name in enumerate(draft.synthetic.label_names)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/index"},
        "field": [_field("classes/index", "sc:Integer"), _field("classes/name", "sc:Text")],
        "data": rows,
    }


def _records(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the record set of images with labels, where a form has both."""
    names = {str(entry["@id"]) for entry in files}
    if "data-files" in names:
        image: dict[str, Any] = {"fileSet": {"@id": "data-files"}, "extract": {"column": "image"}}
        label: dict[str, Any] = {"fileSet": {"@id": "data-files"}, "extract": {"column": "label"}}
        image["transform"] = {"jsonPath": "bytes"}
        fields = [_field("images/image", "sc:ImageObject", image)]
        fields.append(
            _field("images/label", ["sc:Integer", "cr:Label"], label, {"field": {"@id": "classes/index"}})
        )
    elif "images-tables" in names or "images/metadata.csv" in names:
        is_whole = "images/metadata.csv" in names
        table = (
            {"fileObject": {"@id": "images/metadata.csv"}}
            if is_whole
            else {"fileSet": {"@id": "images-tables"}}
        )
        number = {"regex": "(?:.*/)?([^/]+)$"}
        file_name = {**table, "extract": {"column": "file_name"}, "transform": number}
        content = {"fileSet": {"@id": "images-files"}, "extract": {"fileProperty": "content"}}
        matched = {"fileSet": {"@id": "images-files"}, "extract": {"fileProperty": "filename"}}
        fields = [
            _field("images/image", "sc:ImageObject", content),
            _field("images/file_name", "sc:Text", file_name, matched),
            _field("images/label", ["sc:Text", "cr:Label"], {**table, "extract": {"column": "label"}}),
        ]
    else:
        return []
    return [{"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": fields}]


def _field(
    name: str,
    kind: str | list[str],
    source: dict[str, Any] | None = None,
    references: dict[str, Any] | None = None,
) -> dict[str, Any]:
    field: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name, "dataType": kind}
    if source:
        field["source"] = source
    if references:
        field["references"] = references
    return field


def _context() -> dict[str, Any]:
    """Return the context that the official validator accepts: https for schema.org, no version in ``cr``."""
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        **{alias: f"cr:{alias}" for alias in _ALIASES.split()},
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "prov": "http://www.w3.org/ns/prov#",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "sc": "https://schema.org/",
    }
