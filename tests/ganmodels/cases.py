"""What the contract is tried with: every family with its defaults, and with each setting that builds other
networks or plays another game."""

from dataclasses import dataclass, field
from typing import Any

from phantomset.data.catalogue import load, names
from phantomset.ganmodels.family import Family, FamilySettings

PACKAGE = "phantomset.ganmodels.families"


@dataclass(frozen=True, slots=True)
class Case:
    """A family with settings; ``word`` says which, nothing for the defaults."""

    name: str
    word: str = ""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{self.name}, {self.word}" if self.word else self.name

    @property
    def family(self) -> Family:
        """The family itself."""
        return load(PACKAGE, self.name)

    @property
    def settings(self) -> FamilySettings:
        """Its settings."""
        return self.family.Settings(**self.changes)

    @property
    def narrow(self) -> FamilySettings:
        """The settings with networks that take seconds, where equality does not depend on their width."""
        return self.family.Settings(**NARROW.get(self.name, {}), **self.changes)


NARROW: dict[str, dict[str, Any]] = {
    "cyclegan": {"width": 8, "blocks": 2},
    "pix2pix": {"width": 8},
    "stylegan2": {"latent": 64},
    "diffusion": {"sampling_steps": 4},
}

DEFAULTS = [Case(name) for name in names(PACKAGE)]

VARIANTS = [
    Case("cgan", "auxiliary head", {"head": "auxiliary"}),
    Case("cyclegan", "contrastive", {"mode": "contrastive"}),
    Case("stylegan2", "noise and mixing", {"noise_inputs": True, "style_mixing": 0.9}),
    Case("r3gan", "Muon", {"matrix_step": 2.0}),
]
