"""What PS3.3 asks of an object, and what dicom-validator says of a file that is held against it.

dicom-validator would download the standard. Here it is the package dicom-standard: the edition of 2020, as
JSON. The conditions of types 1C and 2C are read from its sentences by dicom-validator's own parser; one
that it does not understand ("Required if the Patient is an animal") leaves the attribute optional.
"""

import json
from importlib.metadata import distribution
from typing import Any
from xml.etree import ElementTree

from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.enum_parser import EnumParser
from dicom_validator.spec_reader.serializer import DefinitionEncoder
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from pydicom.dataset import Dataset

SYNTHETIC_DATA = {"(0008,001C)": {"type": "3", "enums": [{"val": ["YES", "NO"]}]}}
"""What SOP Common got after 2020."""

DOCBOOK = EnumParser.docbook_ns


def rules_of(sop_class: str) -> DicomInfo:
    """Return the dictionary, and the modules of one SOP class with their attributes, nested by sequence."""
    name = next(row["ciod"] for row in _table("sops") if row["id"] == sop_class)
    ciod = next(row["id"] for row in _table("ciods") if row["name"] == name)
    uses = {row["moduleId"]: row["usage"] for row in _table("ciod_to_modules") if row["ciodId"] == ciod}
    known = {
        row["tag"].replace("XX", "xx"): {"name": row["name"], "vr": row["valueRepresentation"]}
        for row in _table("attributes")
    }
    conditions = ConditionParser(known)
    modules: dict[str, dict[str, Any]] = {module: {} for module in uses}
    for row in _table("module_to_attributes"):
        module, *parents, _ = row["path"].split(":")
        if module in modules:
            place = modules[module]
            for parent in parents:
                place = place[f"({parent[:4]},{parent[4:]})".upper()].setdefault("items", {})
            place[row["tag"]] = _attribute(row, known, conditions)
    modules["sop-common"] |= SYNTHETIC_DATA
    iod = {
        "modules": {module: {"ref": module, "use": use} for module, use in uses.items()},
        "group_macros": {},
    }
    as_stored = json.loads(json.dumps(modules, cls=DefinitionEncoder))
    return DicomInfo(known, {sop_class: iod}, as_stored)


def faults(data: Dataset, rules: DicomInfo) -> dict[str, str]:
    """Return what dicom-validator finds: tag, after those of the sequences around it, and kind of error."""
    found = IODValidator(data, rules, error_handler=NullValidationResultHandler()).validate()
    errors = [item for errors in found.module_errors.values() for item in errors.items()]
    assert bool(errors) == bool(found.errors), found.status
    return {str(tag): error.code.name for tag, error in errors}


def _table(name: str) -> list[dict[str, Any]]:
    own = distribution("dicom-standard")
    (path,) = (path for path in own.files or () if path.match(f"standard/{name}.json"))
    return json.loads(path.read_text("utf-8"))


def _attribute(row: dict[str, Any], known: dict[str, Any], conditions: ConditionParser) -> dict[str, Any]:
    """Return one attribute: type, condition and enumerated values."""
    text = ElementTree.fromstring(row["description"])  # noqa: S314 - text of a pinned package
    attribute: dict[str, Any] = {"type": row["type"]}
    if row["type"] in ("1C", "2C", "3"):
        condition = conditions.parse(" ".join(part.strip() for part in text.itertext() if part.strip()))
        if not (condition.type and condition.type.user_defined):
            attribute["cond"] = condition
    enums = EnumParser(lambda _section: None, conditions).parse(_docbook(text), known[row["tag"]]["vr"])
    return attribute | ({"enums": enums} if enums else {})


def _docbook(text: ElementTree.Element) -> ElementTree.Element:
    """Return the lists of values of an HTML cell as dicom-validator knows them from the standard's source."""
    cell = ElementTree.Element("td")
    for division in text.iter("div"):
        title, values = division.find("p/strong"), division.find("dl")
        if title is not None and values is not None:
            listed = ElementTree.SubElement(cell, f"{DOCBOOK}variablelist")
            ElementTree.SubElement(listed, f"{DOCBOOK}title").text = title.text
            for value in values.iter("span"):
                entry = ElementTree.SubElement(listed, f"{DOCBOOK}varlistentry")
                ElementTree.SubElement(entry, f"{DOCBOOK}term").text = value.text
    return cell
