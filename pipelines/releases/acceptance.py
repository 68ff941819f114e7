"""The receiver's check: does a release have what a project needs? The needs are a small YAML file."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phantomset.data.errors import ReleaseError
from phantomset.pipelines.releases.manifest import MANIFEST

POLICIES = ("standard", "strict", "zero-signal")
"""Privacy policies, from the least to the most demanding."""

UTILITY = "AUROC on the holdout, trained on synthetic"
"""The figure of the public verdict that tells how well the set teaches."""


class Needs(BaseModel):
    """What a project needs; what is left out is not asked for.

    Attributes:
        images: at least so many.
        classes: at least so many images of each of these classes.
        size_px: height and width, or one number for both; exactly.
        channels: 1 or 3.
        licences: one of these.
        formats: all of these.
        privacy: at least this policy.
        exposed_share_at_most: the least share of exposed training patients that the tests would have noticed
            may not be larger; the public verdict tells it in bands of 0.01 and 0.03.
        auroc_at_least: of a classifier trained on the set and tested on real images.
        auroc_loss_at_most: against the same classifier trained on real images.
        signed: the release names a signer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int | None = Field(default=None, ge=1)
    classes: dict[str, int] = Field(default_factory=dict[str, int])
    size_px: int | tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    licences: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    privacy: Literal["standard", "strict", "zero-signal"] | None = None
    exposed_share_at_most: float | None = Field(default=None, gt=0, le=1)
    auroc_at_least: float | None = Field(default=None, ge=0, le=1)
    auroc_loss_at_most: float | None = Field(default=None, ge=0, le=1)
    signed: bool = False


def read_needs(path: Path) -> Needs:
    """Return the needs in a YAML file.

    Raises:
        ReleaseError: it is missing, no YAML, or asks for something that is not known.
    """
    try:
        return Needs.model_validate(yaml.safe_load(path.read_bytes()[:1_000_000]) or {})
    except OSError as error:
        raise ReleaseError(f"needs: cannot read {path} ({error.strerror})") from None
    except yaml.YAMLError:
        raise ReleaseError(f"needs: {path} is no YAML file") from None
    except ValidationError as error:
        wrong = [f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ReleaseError(
            "\n".join([*wrong, f"needs may ask for: {', '.join(Needs.model_fields)}"])
        ) from None


def unmet(folder: Path, needs: Needs) -> list[str]:
    """Return one sentence for each need that the release in a folder does not meet; none if it serves.

    What the release does not tell counts as not met.

    Raises:
        ReleaseError: the folder holds no release.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        verdict: dict[str, Any] = json.loads((folder / "verdict.json").read_bytes())
    except (OSError, ValueError):
        raise ReleaseError(
            f"release: {folder} holds no {MANIFEST} and verdict.json that can be read"
        ) from None
    return [*_of_the_set(manifest, needs), *_of_the_verdict(verdict, needs)]


def _of_the_set(manifest: dict[str, Any], needs: Needs) -> list[str]:
    image = manifest.get("image", {})
    size = (image.get("height_px"), image.get("width_px"))
    asked = (needs.size_px, needs.size_px) if isinstance(needs.size_px, int) else needs.size_px
    found = manifest.get("classes", {})
    tests = [
        (
            needs.images is None or manifest.get("images", 0) >= (needs.images or 0),
            "images",
            manifest.get("images"),
        ),
        (asked is None or size == asked, "size_px", size),
        (
            needs.channels is None or image.get("channels") == needs.channels,
            "channels",
            image.get("channels"),
        ),
        (
            not needs.licences or manifest.get("licence") in needs.licences,
            "licences",
            manifest.get("licence"),
        ),
        (set(needs.formats) <= set(manifest.get("formats", ())), "formats", manifest.get("formats")),
        (not needs.signed or bool(manifest.get("signer")), "signed", "not signed"),
    ]
    told = [
        f"{name}: needed {_asked(needs, name)}, found {there}" for is_met, name, there in tests if not is_met
    ]
    short = [(name, count, found.get(name, 0)) for name, count in needs.classes.items()]
    return told + [
        f"classes.{name}: needed {count:,}, found {there:,}" for name, count, there in short if there < count
    ]


def _of_the_verdict(verdict: dict[str, Any], needs: Needs) -> list[str]:
    policy = verdict.get("rules", {}).get("privacy")
    band = re.fullmatch(r"<= (\d+)% of T", str(verdict.get("k95_band")))
    share = int(band[1]) / 100 if band else 1.0
    figures: list[dict[str, Any]] = verdict.get("fidelity", [])
    figure = next((item for item in figures if item.get("metric") == UTILITY), dict[str, Any]())
    auroc, real = figure.get("value"), figure.get("baseline")
    loss = real - auroc if auroc is not None and real is not None else None
    least, most, lost = needs.auroc_at_least, needs.exposed_share_at_most, needs.auroc_loss_at_most
    tests = [
        (verdict.get("status") == "PASS", "verdict", verdict.get("status")),
        (needs.privacy is None or _rank(policy) >= _rank(needs.privacy), "privacy", policy),
        (most is None or share <= most, "exposed_share_at_most", verdict.get("k95_band")),
        (least is None or (auroc is not None and auroc >= least), "auroc_at_least", auroc),
        (lost is None or (loss is not None and loss <= lost + 1e-9), "auroc_loss_at_most", loss),
    ]
    return [
        f"{name}: needed {_asked(needs, name)}, found {there}" for is_met, name, there in tests if not is_met
    ]


def _asked(needs: Needs, name: str) -> Any:
    return getattr(needs, name, "PASS")


def _rank(policy: Any) -> int:
    return POLICIES.index(policy) if policy in POLICIES else -1
