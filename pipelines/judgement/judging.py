"""One judgement: evidence, audit, the record of earlier judgements, draft and restricted report."""

import dataclasses
import datetime
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import TypeAdapter

from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.data.keys import key_folder
from phantomset.data.records import Checkpoint, Cohort, ImageSet, Split, SyntheticSet
from phantomset.data.seeds import seed_of
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace, write_atomically, write_json
from phantomset.pipelines.draft import Counts, Draft, Origin, set_digest, waivable
from phantomset.pipelines.judgement import let_out, lineage
from phantomset.pipelines.judgement.chain import Broken
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.synthesis import making, sets
from phantomset.pipelines.versions import code_digest, versions
from phantomset.validators.finding import Evidence, Rules, Verdict

LEDGER = "judgements.jsonl"
"""The lineage ledger's name; it lies beside the key."""

_VERDICT = TypeAdapter(Verdict)


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """The nouns that a judgement is about.

    ``learned`` are the records of the training part that the generator learned from: those that only watched
    its critic are no members, and would make an attack look weaker.
    """

    cohort: Cohort
    split: Split
    checkpoint: Checkpoint
    synthetic: SyntheticSet
    learned: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """A settled verdict, the draft that is made of it, and the restricted report.

    ``is_waivable``: fidelity alone stands between this set and a PASS, whatever else is on the record.
    ``earlier``: the sets of these patients that it was judged together with.
    """

    digest: str
    verdict: Verdict
    draft: Draft
    report: Path
    case: lineage.Case
    is_waivable: bool = False
    earlier: tuple[str, ...] = ()


def judge(
    recipe: Recipe,
    workspace: Workspace,
    material: Material,
    curve: tuple[dict[str, Any], ...],
    say: Callable[[str], None],
) -> tuple[Judgement, bool]:
    """Return the judgement of a set, and whether it was judged now; an equal judgement is made once."""
    gate = recipe.gate
    rules = Rules(
        privacy=gate.privacy,
        fidelity=gate.fidelity,
        conclusive=gate.conclusive,
        utility=gate.utility,
        cross_fit=gate.cross_fit,
    )
    seed, brought = seed_of(recipe.seed, "validate"), making.weights_of(recipe)
    code = code_digest("validators")
    book = lineage.Lineage(key_folder() / LEDGER)
    case = _case(recipe, workspace, material)
    known = {digest: let_out.load(key_folder(), digest, recipe.image.spec) for digest in book.released(case)}
    case = dataclasses.replace(
        case,
        rules=digest_of(
            rules,
            code,
            seed,
            {digest: found is not None for digest, found in known.items()},
            *(each.identity for each in brought),
        ),
    )
    key = digest_of("validate", material.split.digest, material.synthetic.digest, case.rules, case.left_out)
    folder = workspace.restricted("findings", key[: making.NAME])
    judged = _read_verdict(folder / "judged.json")
    made = judged is None
    if judged is None:
        from phantomset.validators import audit

        book.begin(case)
        images, earlier = evidence(workspace, material), [part for part in known.values() if part]
        judged = audit.judge(
            images, rules, seed, say, earlier=earlier, leave_out=case.left_out, brought=brought
        )
        judged = _unless_given_up(judged, material.checkpoint)
        judged = _unless_forgotten(judged, sum(part is None for part in known.values()))
    anchors = _anchors(workspace)
    settled = book.settle(case, judged, anchors)
    if made:  # nobody learns how it ended before the ledger has it: a judgement that is killed told nothing
        _keep_and_tell(folder, judged, say)
    if settled.entry:
        write_json(folder / "entry.json", {"hash": settled.entry}, mode=0o600)
    found = _judgement(recipe, workspace, material, curve, folder, settled, case)
    is_waivable = (
        waivable(settled.verdict.status, settled.verdict.axes)
        and all(part is not None for part in known.values())
        and not _given_up(material.checkpoint)
        and book.clears(case, settled.verdict, anchors)
    )
    return dataclasses.replace(found, is_waivable=is_waivable, earlier=tuple(known)), made


def _keep_and_tell(folder: Path, judged: Verdict, say: Callable[[str], None]) -> None:
    from phantomset.validators.audit import outcomes

    folder.mkdir(mode=0o700, exist_ok=True)
    _write_verdict(folder / "judged.json", judged)
    for outcome in outcomes(judged.findings):
        say(outcome)


def judgements(workspace: Workspace) -> dict[str, Verdict]:
    """Return a workspace's settled verdicts by the name of their folder, the newest first. Restricted."""
    paths = workspace.restricted("findings").glob("*/verdict.json")
    newest_first = sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return {path.parent.name: _VERDICT.validate_json(path.read_bytes()) for path in newest_first}


def _case(recipe: Recipe, workspace: Workspace, material: Material) -> lineage.Case:
    """Return whose images went in, by what, giving which set; the rules are still to be named."""
    left_out = tuple(sorted(recipe.gate.leave_out))
    made = material.synthetic.digest
    everybody = (*material.cohort.records, *material.cohort.unused)
    # What is rare is no choice of a model: the same section, whoever asks to go on without it.
    model = recipe.model.model_dump(mode="json", exclude={"rare"})
    return lineage.Case(
        patients=lineage.hashed(record.subject for record in everybody),
        section=digest_of("section", model, recipe.image),
        made=set_digest(published(workspace, material, left_out)) if left_out else made,
        rules="",
        recipe=recipe.name,
        reason=recipe.gate.reason,
        left_out=left_out,
        images=lineage.named(record.origin for record in everybody),
        whole=made,
    )


def remember(judgement: Judgement) -> None:
    """Put a set that is about to be let out on the record, and keep it: later sets are judged with it.

    Raises:
        WorkspaceError: it cannot be kept, or was judged without one that was let out meanwhile; it must not
            be let out.
    """
    let_out.keep(key_folder(), judgement.draft.synthetic)
    lineage.Lineage(key_folder() / LEDGER).release(judgement.case, judgement.earlier)


def failed_since() -> dict[str, str]:
    """Return the day of the FAIL that sets which were let out have come to stand under, by their digest.

    Raises:
        WorkspaceError: the ledger beside the key cannot be trusted, so nobody knows.
    """
    try:
        return lineage.Lineage(key_folder() / LEDGER).failed_since()
    except Broken as broken:
        raise WorkspaceError(
            f"the ledger of judgements beside the key cannot be trusted: {broken}. Whether a release has "
            "failed since, nobody knows; restore from one backup what lies there."
        ) from None


def published(workspace: Workspace, material: Material, left_out: tuple[str, ...]) -> ImageSet:
    """Return the set as it would leave: without the classes that are left out."""
    from phantomset.validators import audit

    found = sets.load_images(workspace, material.synthetic)
    return audit.with_classes(found, [name for name in found.label_names if name not in left_out])


def evidence(workspace: Workspace, material: Material) -> Evidence:
    """Return the four sets of images that a judgement needs."""
    cohort, split = material.cohort, material.split
    return Evidence(
        train=image_set(workspace, cohort, material.learned or split.train),
        holdout=image_set(workspace, cohort, split.holdout),
        reference=image_set(workspace, cohort, split.reference),
        synthetic=sets.load_images(workspace, material.synthetic),
        has_patients=cohort.has_patients,
    )


def _judgement(
    recipe: Recipe,
    workspace: Workspace,
    material: Material,
    curve: tuple[dict[str, Any], ...],
    folder: Path,
    settled: lineage.Settled,
    case: lineage.Case,
) -> Judgement:
    """Make the draft and the restricted report; what was settled like this before is read again."""
    from phantomset.pipelines import report
    from phantomset.validators import gate

    name = digest_of(_plain(dataclasses.asdict(settled.verdict)), settled.notes, recipe.digest)[:16]
    paper, public = folder / f"report-{name}.html", folder / f"public-{name}.json"
    is_known = paper.exists() and public.exists()
    synthetic = published(workspace, material, case.left_out)
    images = None if is_known else dataclasses.replace(evidence(workspace, material), synthetic=synthetic)
    promised = {"differential_privacy": _promised(material)}
    coarse = gate.public(settled.verdict, images) | promised if images else json.loads(public.read_bytes())
    draft = Draft(
        name=recipe.name,
        recipe=recipe.plain(),
        synthetic=synthetic,
        verdict=settled.verdict,
        public_verdict=coarse,
        counts=counts(material.cohort, material.split),
        curve=curve,
        notes=(*material.cohort.notes, *settled.notes, *_left_out_note(case.left_out)),
        events=material.checkpoint.events,
        versions=versions(),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        recipe_digest=recipe.digest,
        origin=_origin(material),
    )
    if images:
        write_atomically(paper, report.restricted_html(draft, images).encode(), mode=0o600)
        write_json(public, coarse, mode=0o600)
        _write_verdict(folder / "verdict.json", settled.verdict)
    return Judgement(folder.name, settled.verdict, draft, paper, case)


def _promised(material: Material) -> dict[str, Any] | None:
    """Return what training promised each patient, epsilon rounded up to three digits; None without."""
    kept = material.checkpoint.guarantee
    if kept is None:
        return None
    steps = 10.0 ** (math.floor(math.log10(kept.epsilon)) - 2) if kept.epsilon > 0 else 1.0
    unit = "patient" if material.cohort.has_patients else "image"
    epsilon = float(f"{math.ceil(kept.epsilon / steps) * steps:.3g}")
    return {"epsilon": epsilon, "delta": kept.delta, "unit": unit}


def _origin(material: Material) -> Origin:
    cohort, split = material.cohort, material.split
    parts = {"train": split.train, "holdout": split.holdout, "reference": split.reference}
    patients = {
        part: sorted({cohort.records[position].subject for position in positions})
        for part, positions in parts.items()
    }
    return Origin(cohort.digest, split.digest, material.checkpoint.digest, patients)


def _unless_given_up(verdict: Verdict, checkpoint: Checkpoint) -> Verdict:
    """Let no set out of a training that the engine gave up, whatever its figures say."""
    if verdict.status != "PASS" or not _given_up(checkpoint):
        return verdict
    reason = "training failed and was given up; change the model section and train anew"
    return dataclasses.replace(verdict, status="INCONCLUSIVE", reasons=(reason, *verdict.reasons))


def _given_up(checkpoint: Checkpoint) -> bool:
    return any(event["code"] == "given-up" for event in checkpoint.events)


def _unless_forgotten(verdict: Verdict, missing: int) -> Verdict:
    """Let no set out whose patients' earlier releases cannot be looked at together with it."""
    if verdict.status != "PASS" or not missing:
        return verdict
    reason = (
        f"{missing} sets that were let out from these patients are not beside the key any more, so they "
        f"cannot be judged together with this one; restore the folder {let_out.FOLDER!r} there from a backup"
    )
    return dataclasses.replace(verdict, status="INCONCLUSIVE", reasons=(reason, *verdict.reasons))


def _left_out_note(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        return ()
    listed = ", ".join(names)
    return (f"Left out of the release by gate.leave_out: {listed}. What remains was judged again by itself.",)


def counts(cohort: Cohort, split: Split) -> Counts:
    """Return what ingest and split saw, as the report tells it; what the split leaves out is kept out."""
    left_out = frozenset(split.left_out)
    inside = [position for position in range(len(cohort.records)) if position not in left_out]
    labels = Counter(cohort.records[position].label for position in inside)
    links = {"SPLIT_LINK": len(left_out)} if left_out else {}

    def people(positions: Sequence[int]) -> int:
        return len({cohort.records[position].subject for position in positions})

    return Counts(
        files=cohort.files,
        images=len(inside),
        patients=people(inside) if cohort.has_patients else None,
        classes={name: labels[index] for index, name in enumerate(cohort.label_names)},
        quarantine=dict(sorted((cohort.quarantine | links).items())),
        dropped=cohort.dropped,
        parts={part: people(getattr(split, part)) for part in ("train", "holdout", "reference")},
    )


def _anchors(workspace: Workspace) -> set[str]:
    """Return the ledger lines that this workspace's judgements were written to."""
    entries = workspace.restricted("findings").glob("*/entry.json")
    return {str(json.loads(path.read_bytes())["hash"]) for path in entries}


def _write_verdict(path: Path, verdict: Verdict) -> None:
    write_json(path, _plain(dataclasses.asdict(verdict)), mode=0o600)


def _read_verdict(path: Path) -> Verdict | None:
    return _VERDICT.validate_json(path.read_bytes()) if path.exists() else None


def _plain(value: Any) -> Any:
    """Turn numpy's values into Python's, so that a finding's details can be stored."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast(list[Any], value)]
    if isinstance(value, np.ndarray):
        return _plain(cast(Any, value).tolist())
    return cast(Any, value).item() if isinstance(value, np.generic) else value
