"""The recipe: everything that decides what a run makes, as one typed, frozen value."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.digest import digest_of
from phantomset.data.errors import RecipeError
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.source import SourceSettings
from phantomset.data.splitting.groups import DuplicateSettings
from phantomset.data.splitting.split import SplitSettings
from phantomset.pipelines import agreement
from phantomset.pipelines.agreement import refusal
from phantomset.pipelines.redact import KEPT_BACK, PLACES, public_recipe

SOURCES, FAMILIES = "phantomset.data.sources", "phantomset.ganmodels.families"
PUBLISHERS = "phantomset.pipelines.publishers"

LABEL = "label"
"""The condition that is the class itself."""

Whole = Annotated[int, Field(strict=True)]
"""A whole number; true, text and 1.5 are refused."""


def _known(package: str, name: str) -> Any:
    """Return the catalogue's entry; an unknown name becomes an error of the field."""
    try:
        return catalogue.load(package, name)
    except RecipeError as error:
        raise refusal("choice", str(error)) from None


def _source(given: Any) -> Any:
    """Validate the section ``source`` by the settings of its format."""
    if isinstance(given, SourceSettings) or not isinstance(given, dict):
        return given
    section = cast(dict[str, Any], given)
    named = section.get("format")
    try:
        if not isinstance(named, str):
            raise refusal("missing", f"is missing; one of {', '.join(catalogue.names(SOURCES))}")
        source = _known(SOURCES, named)
    except PydanticCustomError as error:
        detail = InitErrorDetails(type=error, loc=("format",), input=named)
        raise ValidationError.from_exception_data("source", [detail]) from None
    return source.Settings.model_validate(section)


class _OneOf:
    """The JSON schema of a field whose settings come from a catalogue."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        del core
        models = [catalogue.load(self.package, name).Settings for name in catalogue.names(self.package)]
        return {"anyOf": [handler(model.__pydantic_core_schema__) for model in models]}


class Section(BaseModel):
    """Base of the recipe's sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Section):
    """How long to train, in images shown to the critic. Minutes are turned into images once, by a probe."""

    images: Whole | None = Field(default=None, ge=64, le=10**10, description="real images shown")
    minutes: float | None = Field(default=None, gt=0, le=60 * 24 * 30, description="minutes of training")

    @model_validator(mode="after")
    def _one_at_least(self) -> "Budget":
        if self.images is None and self.minutes is None:
            raise refusal("budget", "needs images, minutes or both")
        return self


class PrivacySettings(Section):
    """Differential privacy of training: what it may cost, or how much noise there is; one of the two."""

    epsilon: float | None = Field(
        default=None, ge=0.05, le=100, description="what training may cost a patient"
    )
    noise_multiplier: float | None = Field(
        default=None, ge=0.1, le=1_000, description="deviation of the noise over clip_norm"
    )
    delta: float = Field(default=1e-5, gt=0, lt=0.1, description="chance for which epsilon does not hold")
    clip_norm: float = Field(default=1.0, gt=0, le=1e6, description="longest gradient of one image")
    critic_steps: Whole = Field(default=5, ge=1, le=1_000, description="for one step of the generator")

    @model_validator(mode="after")
    def _one_of_two(self) -> "PrivacySettings":
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise refusal("privacy", "needs epsilon or noise_multiplier, and not both")
        return self


class ModelSettings(Section):
    """The generator: its family, its budget and how it is trained."""

    family: str = "r3gan"
    budget: Budget = Budget(images=400_000, minutes=None)
    batch_size: Whole = Field(default=64, ge=4, le=65_536)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    augment: Literal["none", "shift", "affine", "adaptive"] = "none"
    class_sampling: Literal["natural", "equal"] = "natural"
    members: Whole | None = Field(
        default=None,
        ge=1,
        le=16,
        description="generators that share the budget and make the set in turn; none: by the budget",
    )
    conditions: tuple[str, ...] = Field(
        default=(), description="what can be asked for: 'label' and attributes of the source; none: the label"
    )
    rare: Literal["refuse", "leave-out"] = Field(
        default="refuse", description="classes and combinations of conditions with too few training images"
    )
    held_out_share: float = Field(
        default=0.05,
        ge=0,
        le=0.3,
        description="of the training patients, to notice that the critic over-fits",
    )
    privacy: PrivacySettings | None = Field(
        default=None, description="differential privacy of training; none: without"
    )
    settings: Annotated[SerializeAsAny[BaseModel], _OneOf(FAMILIES)] = Field(
        default_factory=Section, validate_default=True
    )

    @field_validator("family")
    @classmethod
    def _family_is_known(cls, name: str) -> str:
        _known(FAMILIES, name)
        return name

    @field_validator("settings", mode="before")
    @classmethod
    def _settings_of_the_family(cls, given: Any, info: ValidationInfo) -> Any:
        if "family" not in info.data:  # already an error; what the settings mean is not known
            return Section()
        model: type[BaseModel] = _known(FAMILIES, info.data["family"]).Settings
        return model() if type(given) is Section else model.model_validate(given)


def _classes(given: Any) -> Any:
    if given in ("as-real", "uniform") or (isinstance(given, dict) and given):
        return cast(Any, given)
    raise refusal("classes", "is 'as-real', 'uniform', or a section of label: number or share of images")


Amount = Annotated[int, Field(strict=True, ge=0)] | Annotated[float, Field(strict=True, ge=0, le=1)]
"""Whole numbers of images, or shares below 1."""


class GenerateSettings(Section):
    """How many images to make, of which classes, and how typical they may be."""

    count: Whole = Field(default=5_000, ge=1, le=10**8)
    classes: Annotated[
        Literal["as-real", "uniform"] | dict[str, Amount],
        BeforeValidator(_classes),
    ] = "as-real"
    where: dict[str, str] = Field(default={}, description="condition: value; only what fits is made")
    truncation: float = Field(
        default=1.0, gt=0, le=1, description="below 1, typical images at the price of variety"
    )

    seed: Whole | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="another draw from the same generator; the recipe's when not given",
    )
    through: str | None = Field(
        default=None, pattern="^[0-9a-f]{16}$", description="a translation that candidates go through"
    )

    @model_validator(mode="after")
    def _counts_agree(self) -> "GenerateSettings":
        if not isinstance(self.classes, dict):
            return self
        total = sum(self.classes.values())
        if all(isinstance(value, int) for value in self.classes.values()):
            if total != self.count:
                raise refusal("count", f"the classes add up to {total:,}, but count is {self.count:,}")
        elif abs(total - 1) > 1e-6:
            raise refusal("classes", f"the shares of the classes add up to {total:g}, not to 1")
        return self


class TranslateSettings(Section):
    """What `phantomset translate` learns to turn into what."""

    task: Literal["pairs", "domains", "denoise", "upscale"]
    source: str | None = Field(default=None, description="class of what is translated (pairs, domains)")
    target: str | None = Field(default=None, description="class of what it becomes (pairs, domains)")
    noise_levels: float = Field(default=20.0, gt=0, le=128, description="noise to take away, grey levels")
    factor: Literal[2, 4, 8] = Field(default=2, description="how much finer (upscale)")

    @model_validator(mode="after")
    def _classes_are_named(self) -> "TranslateSettings":
        if self.task in ("pairs", "domains") and (not self.source or not self.target):
            raise refusal("translate", f"task {self.task} needs source and target, two classes")
        self._require_use()
        if self.source is not None and self.source == self.target:
            raise refusal("translate", f"source and target are both {self.source!r}; name two classes")
        return self

    def _require_use(self) -> None:
        """Hold that nothing is said which the task does not heed."""
        heeded = {"denoise": ("noise_levels",), "upscale": ("factor",)}.get(self.task, ("source", "target"))
        for name, field in type(self).model_fields.items():
            if name not in ("task", *heeded) and getattr(self, name) != field.default:
                raise refusal("translate", f"task {self.task} has no use for {name}; leave it out")


class ExtractorSettings(Section):
    """An extractor whose weights are brought: a local file, its digest, and the architecture that it fits."""

    name: str = Field(pattern="^[a-z][a-z0-9-]{1,30}$", description="as the report names it")
    architecture: str = Field(description="such as torchvision/resnet50 or dinov2/vit", max_length=60)
    weights: Path = Field(description="a local .safetensors file")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file")
    size_px: Whole = Field(default=224, ge=16, le=1024, description="side to which images are brought")
    mean: tuple[float, ...] = Field(default=(0.485, 0.456, 0.406), min_length=1, max_length=3)
    deviation: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.229, 0.224, 0.225), min_length=1, max_length=3
    )

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in ("classifier", "texture", "pixel", "all"):
            raise refusal("name", f"{name!r} is taken; choose another")
        return name


class GateSettings(Section):
    """The rules, fixed before training; `reason` is what lets a changed recipe leave an earlier FAIL."""

    privacy: Literal["standard", "strict", "zero-signal"] = "standard"
    fidelity: Literal["demo", "research", "clinical-ml"] = "research"
    utility: Literal["basic", "full"] = Field(
        default="basic", description="full: also what the set is good for, in words; no verdict depends on it"
    )
    sign_off: Literal["none", "one", "two"] = "none"
    owner: str = Field(default="", max_length=200, description="who answers for these rules")
    reason: str | None = Field(default=None, min_length=10, max_length=500)
    conclusive: tuple[str, ...] = Field(
        default=(), description="subgroups that must be judged, 'PatientSex: F'"
    )
    subgroups: tuple[str, ...] = Field(
        default=(), description="attributes of the source that are no conditions, for the gate alone"
    )
    leave_out: tuple[str, ...] = Field(default=(), description="classes that failed, to be released without")
    cross_fit: bool = Field(default=False, description="attacks over five draws of reference and holdout")
    extractors: tuple[ExtractorSettings, ...] = Field(
        default=(), description="further feature spaces for fidelity, from weights on this disk"
    )


def _publisher(name: str) -> str:
    _known(PUBLISHERS, name)
    return name


class Splits(Section):
    """Shares of the set's parts, each class divided alike; they add up to 1."""

    train: float = Field(gt=0, le=1)
    validation: float = Field(default=0, ge=0, lt=1)
    test: float = Field(default=0, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> "Splits":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise refusal("splits", f"adds up to {total:g}, not to 1")
        return self


class PublishSettings(Section):
    """What a release is written as, and on what terms."""

    formats: tuple[Annotated[str, AfterValidator(_publisher)], ...] = Field(
        default=("folder", "npz"), min_length=1
    )
    splits: Splits | None = Field(default=None, description="parts of the set; none: it is one whole")
    licence: str = Field(default="CC-BY-4.0", min_length=1, max_length=100)
    source_owner: str = Field(default="", max_length=200, description="whose the real images are")
    source_terms: str = Field(default="", max_length=500, description="terms and citation of the real images")
    creator: str = Field(default="", max_length=200, description="who publishes the set")
    url: str = Field(default="", max_length=500, description="where the set will be found")

    @field_validator("formats")
    @classmethod
    def _formats_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise refusal("formats", "names a format twice")
        return names


class Recipe(Section):
    """One run, whole. What belongs to the machine (device, threads, workspace) is not in it."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    summary: str = Field(default="", max_length=200, description="one line for `phantomset recipes list`")
    seed: Whole = Field(default=0, ge=0, lt=2**63)
    source: Annotated[SerializeAsAny[SourceSettings], BeforeValidator(_source), _OneOf(SOURCES)]
    image: ImageSettings = Field(default_factory=ImageSettings)
    deidentify: DeidentifySettings = Field(default_factory=DeidentifySettings)
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)  # not made on import: it loads torch
    generate: GenerateSettings = GenerateSettings()
    translate: TranslateSettings | None = Field(default=None, description="for `phantomset translate`")
    gate: GateSettings = GateSettings()
    publish: PublishSettings = PublishSettings()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        agreement.require(self)
        return self

    def condition(self, name: str) -> str:
        """Return a condition's own name: the label table's column stands for ``label``."""
        column = getattr(getattr(self.source, "labels", None), "column", None)
        return LABEL if isinstance(column, str) and name.casefold() == column.casefold() else name

    @property
    def drawn_by(self) -> int:
        """The seed of the synthetic set: that of `generate`, or the recipe's own."""
        return self.seed if self.generate.seed is None else self.generate.seed

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain data with every default filled in."""
        return self.model_dump(mode="json")

    def public(self) -> dict[str, Any]:
        """Return what may be shown outside the restricted part: no path, pattern or file name."""
        return public_recipe(self.plain())

    def without_paths(self) -> "Recipe":
        """Return the recipe with its paths kept back: equal wherever the source and weights lie."""
        extractors = tuple(_keep_back(each) for each in self.gate.extractors)
        gate = self.gate.model_copy(update={"extractors": extractors})
        return self.model_copy(update={"source": _keep_back(self.source), "gate": gate})

    @property
    def digest(self) -> str:
        """The digest of the recipe without its paths: equal on every machine."""
        return digest_of("recipe", self.without_paths().plain())


def _keep_back(settings: BaseModel) -> BaseModel:
    """Return settings of a source with each path replaced."""
    changed: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            changed[name] = Path(KEPT_BACK)
        elif isinstance(value, str) and name in PLACES:
            changed[name] = KEPT_BACK
        elif isinstance(value, BaseModel):
            changed[name] = _keep_back(value)
    return settings.model_copy(update=changed)
