"""The split: by patient, stratified, assigned once."""

import dataclasses
import random
from collections import Counter

import pytest
from pydantic import ValidationError

from phantomset.data.errors import SplitError, WorkspaceError
from phantomset.data.records import Cohort, ImageSpec, Record
from phantomset.data.splitting.split import PARTS, SplitSettings, split
from phantomset.data.workspace import Workspace


def _cohort(patients: int, classes: int = 2, images: int = 2, salt: str = "") -> Cohort:
    """Patients with some images each, of one class each: a third of class 0, the rest in turn."""
    records: list[Record] = []
    for patient in range(patients):
        label = 0 if patient % 3 == 0 else 1 + patient % max(1, classes - 1) if classes > 1 else 0
        for image in range(1 + patient % images):
            name = f"{random.Random(f'{salt}{patient}-{image}').getrandbits(256):064x}"
            records.append(Record(name, name, label, f"s{patient}", f"s{patient}"))
    names = tuple(f"class{index}" for index in range(classes))
    records.sort(key=lambda record: record.digest)
    return Cohort(
        f"cohort{salt}{patients}", ImageSpec(1, 8, 8), names, tuple(records), len(records), {}, {}, True
    )


def _subjects(cohort: Cohort, positions: tuple[int, ...]) -> set[str]:
    return {cohort.records[position].subject for position in positions}


@pytest.mark.parametrize(("patients", "shares"), [(600, (0.4, 0.4, 0.2)), (3000, (0.5, 0.35, 0.15))])
def test_default_shares_go_by_the_number_of_patients(
    workspace: Workspace, patients: int, shares: tuple[float, ...]
) -> None:
    """40/40/20 of the patients below 3,000, and 50/35/15 from there on."""
    cohort = _cohort(patients, classes=1)
    made = split(cohort, SplitSettings(), workspace)
    counts = [len(_subjects(cohort, getattr(made, part))) for part in PARTS]
    assert counts == [pytest.approx(patients * share, abs=1) for share in shares]


@pytest.mark.parametrize("patients", [28_572, 70_000, 1_000_000])
def test_beyond_ten_thousand_in_the_holdout_train_takes_the_rest(patients: int) -> None:
    """H stays at 10,000 patients and R at 15/35 of that, however many more there are."""
    train, holdout, reference = (share * patients for share in SplitSettings().shares(patients))
    assert (holdout, reference) == (pytest.approx(10_000), pytest.approx(150_000 / 35))
    assert train == pytest.approx(patients - 10_000 - 150_000 / 35)


def test_parts_share_no_subject_and_miss_no_record(workspace: Workspace) -> None:
    """Every record is in exactly one part, and every subject too."""
    cohort = _cohort(200, classes=3)
    made = split(cohort, SplitSettings(), workspace)
    assert sorted(made.train + made.holdout + made.reference) == list(range(len(cohort.records)))
    parts = [_subjects(cohort, getattr(made, part)) for part in PARTS]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_each_part_has_the_class_mix_of_the_whole(workspace: Workspace) -> None:
    """Within a class the patients are cut at the shares, to the patient."""
    cohort = _cohort(300, classes=3, images=1)
    made = split(cohort, SplitSettings(train=0.5, holdout=0.3), workspace)
    whole = Counter(record.label for record in cohort.records)
    for part, share in zip(PARTS, (0.5, 0.3, 0.2), strict=True):
        found = Counter(cohort.records[position].label for position in getattr(made, part))
        assert all(abs(found[label] - share * count) <= 1 for label, count in whole.items())


def test_a_group_of_joined_patients_stays_whole(workspace: Workspace) -> None:
    """Two subjects who share an image are one group, and never end in two parts."""
    cohort = _cohort(60)
    joined = {f"s{2 * pair + 1}": f"s{2 * pair}" for pair in range(30)}
    records = tuple(
        Record(r.digest, r.origin, r.label, r.subject, joined.get(r.subject, r.subject))
        for r in cohort.records
    )
    cohort = Cohort("joined", cohort.spec, cohort.label_names, records, len(records), {}, {}, True)
    made = split(cohort, SplitSettings(), workspace)
    where = {cohort.records[i].subject: part for part in PARTS for i in getattr(made, part)}
    assert all(where[subject] == where[group] for subject, group in joined.items())


def test_a_patient_with_two_classes_goes_by_the_rarest(workspace: Workspace) -> None:
    """With 9 patients of a rare class who all have a common image too, each part still gets some of the
    rare.
    """
    records: list[Record] = []
    for patient in range(100):
        name = f"{random.Random(patient).getrandbits(248):062x}"
        records.append(Record(name + "00", name + "00", 0, f"s{patient}", f"s{patient}"))
        if patient < 9:
            records.append(Record(name + "01", name + "01", 1, f"s{patient}", f"s{patient}"))
    cohort = Cohort("two", ImageSpec(1, 8, 8), ("common", "rare"), tuple(records), len(records), {}, {}, True)
    made = split(cohort, SplitSettings(train=0.4, holdout=0.4), workspace)
    rare = [sum(cohort.records[i].label for i in getattr(made, part)) for part in PARTS]
    assert rare == [4, 3, 2] or rare == [3, 4, 2]


def test_the_seed_decides(workspace: Workspace) -> None:
    """The same seed gives the same split; another seed another."""
    cohort = _cohort(100)
    first = split(cohort, SplitSettings(seed=1), workspace)
    assert split(cohort, SplitSettings(seed=1), workspace) == first
    assert split(cohort, SplitSettings(seed=2), workspace).digest != first.digest


def test_pseudonyms_have_no_say(workspace: Workspace) -> None:
    """Under another project key the same images fall into the same parts."""
    cohort = _cohort(100)
    renamed = tuple(
        Record(r.digest, r.origin, r.label, f"z{r.subject[::-1]}", f"z{r.group[::-1]}")
        for r in cohort.records
    )
    other = Cohort("other", cohort.spec, cohort.label_names, renamed, len(renamed), {}, {}, True)
    first, second = split(cohort, SplitSettings(), workspace), split(other, SplitSettings(), workspace)
    assert (first.train, first.holdout, first.reference) == (second.train, second.holdout, second.reference)


def test_the_image_size_has_no_say(workspace: Workspace) -> None:
    """The same images at another size, so with other digests and in another order: the same parts."""
    cohort = _cohort(100)
    resized = sorted(
        (dataclasses.replace(record, digest=record.digest[::-1]) for record in cohort.records),
        key=lambda record: record.digest,
    )
    other = Cohort(
        "other", ImageSpec(1, 9, 9), cohort.label_names, tuple(resized), len(resized), {}, {}, True
    )
    first, second = split(cohort, SplitSettings(), workspace), split(other, SplitSettings(), workspace)
    for part in PARTS:
        assert _subjects(cohort, getattr(first, part)) == _subjects(other, getattr(second, part))


def test_it_is_assigned_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call reads what the first one stored; the default shares and the same shares written out
    are one.
    """
    cohort = _cohort(100)
    first = split(cohort, SplitSettings(), workspace)
    monkeypatch.setattr("phantomset.data.splitting.split._assign", None)
    assert split(cohort, SplitSettings(), workspace) == first
    assert split(cohort, SplitSettings(train=0.4, holdout=0.4, reference=0.2), workspace) == first


def test_three_patients_a_class_are_enough_and_two_are_not(workspace: Workspace) -> None:
    """The error names the class, what it has and what it needs."""
    enough = _cohort(9, classes=2, images=1)
    assert all(getattr(split(enough, SplitSettings(), workspace), part) for part in PARTS)
    with pytest.raises(SplitError, match=r"'class0' has 2.*3 at the least.*source\.labels\.classes"):
        split(_cohort(6, classes=2, images=1), SplitSettings(), workspace)


def test_a_damaged_split_is_an_input_error(workspace: Workspace) -> None:
    """A truncated file ends in a message."""
    cohort = _cohort(30)
    split(cohort, SplitSettings(), workspace)
    path = next(workspace.restricted("splits").iterdir())
    path.write_text(path.read_text()[:30])
    with pytest.raises(WorkspaceError, match="damaged"):
        split(cohort, SplitSettings(), workspace)


@pytest.mark.parametrize(
    "shares",
    [
        {"train": 0.5},
        {"train": 0.6, "holdout": 0.4},
        {"train": 0.5, "holdout": 0.5, "reference": 0.5},
        {"train": 0.5, "holdout": 0.3, "reference": 0.1},
        {"train": 1.0, "holdout": 0.0},
        {"train": -0.1, "holdout": 0.5},
        {"seed": -1},
        {"validation": 0.2},
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    """None, two or three shares, each above 0, together 1; unknown keys are refused."""
    with pytest.raises(ValidationError):
        SplitSettings.model_validate(shares)
