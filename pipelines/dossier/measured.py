"""Answers that a run itself can give: each function reads one from a judged draft, or has none."""

from collections.abc import Callable, Iterable

from phantomset.pipelines.draft import Draft
from phantomset.pipelines.report import words
from phantomset.validators.finding import Finding
from phantomset.validators.policy import MARGINS

Measured = Callable[[Draft], str]
"""From a draft to a sentence or two; "" where the run did not measure it."""


def verdict(draft: Draft) -> str:
    """The verdict with its axes."""
    axes = ", ".join(f"{words.AXES[axis].lower()} {status}" for axis, status in draft.verdict.axes.items())
    return f"{draft.verdict.status} ({axes}), suite {draft.verdict.suite}."


def counts(draft: Draft) -> str:
    """What came in, and how it was shared out."""
    seen = draft.counts
    people = "patients not known" if seen.patients is None else f"{seen.patients:,} patients"
    parts = ", ".join(f"{count:,} in {part}" for part, count in seen.parts.items())
    return f"{seen.files:,} files, {seen.images:,} images let in, {people}; {parts}."


def minimised(draft: Draft) -> str:
    """What was kept out and taken away before anything was trained."""
    seen = draft.counts
    dropped, out = sum(seen.dropped.values()), sum(seen.quarantine.values())
    return (
        f"{out:,} files were set aside; {dropped:,} header elements were taken away by {len(seen.dropped)} "
        f"rules. {' '.join(draft.notes)}"
    ).strip()


def training(draft: Draft) -> str:
    """How the generator was trained."""
    model = draft.recipe.get("model", {})
    budget = model.get("budget", {}).get("images")
    shown = f"{budget:,} images shown" if isinstance(budget, int) else "budget by time"
    dp = words.promise(draft.public_verdict.get("differential_privacy")) or "Without differential privacy."
    held = f"{model.get('held_out_share', 0):.0%} of the training patients watch for over-fitting"
    family, augment = model.get("family", "not named"), model.get("augment", "none")
    return f"Family {family}, {shown}, augmentation {augment}, {held}; {dp.removesuffix('.')}."


def output(draft: Draft) -> str:
    """What leaves, and what does not."""
    channels, height, width = draft.synthetic.images.shape[1:]
    return (
        f"{len(draft.synthetic):,} synthetic images ({width} x {height} px, {channels} channel(s)) with "
        f"labels of {len(draft.synthetic.label_names)} classes; no weights, no real image, no score."
    )


def rules(draft: Draft) -> str:
    """What was fixed before anything was measured."""
    margins = MARGINS[draft.verdict.rules.privacy]
    owner = draft.recipe.get("gate", {}).get("owner") or "nobody is named as owner (gate.owner)"
    return (
        f"Privacy policy {draft.verdict.rules.privacy}: joint upper 95% bounds of attack AUC at most "
        f"{margins.auc} and of TPR at 1% false positives at most {margins.tpr}; no copy, no exposed group. "
        f"Fixed in the recipe before training, digest {draft.recipe_digest[:16] or 'not recorded'}; {owner}."
    )


def power(draft: Draft) -> str:
    """What these tests would have seen."""
    return draft.verdict.power


def strength(draft: Draft) -> str:
    """How strong the best attack could be."""
    return _told(draft, ("strength",))


def membership(draft: Draft) -> str:
    """Whether membership can be inferred."""
    return _told(draft, ("attacks", "strength", "subgroups"))


def attributes(draft: Draft) -> str:
    """Whether attributes can be inferred."""
    return _told(draft, ("attributes", "texts"))


def regurgitation(draft: Draft) -> str:
    """Whether training images come out again."""
    return _told(draft, ("identity", "copies"))


def linking(draft: Draft) -> str:
    """Whether a patient can be recognised in another image."""
    return _told(draft, ("reidentification",))


def weights(draft: Draft) -> str:
    """Whether the model can be attacked."""
    told = _told(draft, ("white_box",))
    return told and f"The model is not released: attacks need its weights or a way to ask it. {told}"


def worst_group(draft: Draft) -> str:
    """Whether a subgroup is more exposed than the rest: the greatest risk, not the average one."""
    return _told(draft, ("subgroups",))


def controls(draft: Draft) -> str:
    """Whether the tests themselves work."""
    return _told(draft, tuple(words.CONTROLS))


def coverage(draft: Draft) -> str:
    """Whether the set reaches what is real."""
    return _told(draft, ("coverage", "modes"))


def congruence(draft: Draft) -> str:
    """Whether the set looks like real images."""
    return _told(draft, ("frechet", "kernel", "appearance", "detector"))


def completeness(draft: Draft) -> str:
    """Whether all classes are there, and as varied as in reality."""
    sizes = ", ".join(
        f"{name} {int((draft.synthetic.labels == label).sum()):,}"
        for label, name in enumerate(draft.synthetic.label_names)
    )
    return f"Images by class: {sizes}. {_told(draft, ('diversity',))}".strip()


def labels(draft: Draft) -> str:
    """Whether images show their labels."""
    return _told(draft, ("labels",))


def usefulness(draft: Draft) -> str:
    """What the set is good for."""
    told = draft.public_verdict.get("certificate", {})
    words_ = f"{told['words'].capitalize()}: {told['sentence']} " if told else ""
    return (words_ + _told(draft, ("utility",))).strip()


def consistency(draft: Draft) -> str:
    """Whether the same comes out again."""
    seed = draft.recipe.get("seed")
    if seed is None:
        return ""
    return f"Seed {seed}; every random step has its own named stream, so the same recipe gives the same set."


def waived(draft: Draft) -> str:
    """What was waived, by whom."""
    held = draft.waiver
    if held is None:
        return "Nothing was waived."
    return f"Fidelity, by {held.name} ({held.role}) until {held.until}: {held.reason}"


def earlier(draft: Draft) -> str:
    """What is on the record of these patients."""
    told = [note for note in draft.notes if "earlier set" in note]
    return " ".join(told) or "No earlier FAIL of these patients is on the record."


def _told(draft: Draft, checks: Iterable[str]) -> str:
    """Return the figures of some checks in words, the gravest of each metric; "" where none was evaluated."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for check in checks:
        for each in draft.verdict.findings:
            if each.check == check and each.status != "NOT_EVALUATED":
                grouped.setdefault((check, each.metric), []).append(each)
    return " ".join(_sentence(found) for found in list(grouped.values())[:MOST])


MOST = 8
"""Figures in one cell; the restricted report has all."""

_GRAVITY = ("FAIL", "INCONCLUSIVE", "PASS", "REPORTED")


def _sentence(found: list[Finding]) -> str:
    """Return one figure with its interval, what it is compared with, its limit and its outcome."""
    worst = min(found, key=lambda each: _GRAVITY.index(each.status))
    one = "" if worst.group == "all" else f" ({worst.group})"
    name = words.capital(worst.metric) + (f" ({len(found)} groups)" if len(found) > 1 else one)
    if worst.value is None:
        return f"{name}: {words.STATUS[worst.status]}. {worst.advice}".strip()
    told = [f"{worst.value:.3g}"]
    if worst.low is not None and worst.high is not None:
        told.append(f"95% interval {worst.low:.3g} to {worst.high:.3g}")
    if worst.baseline is not None:
        told.append(f"real or blind {worst.baseline:.3g}")
    if worst.limit:
        told.append(f"limit: {worst.limit}")
    return f"{name}: {', '.join(told)}; {words.STATUS[worst.status]}."
