"""A split that grows: nobody moves, newcomers come at the same shares, what joins two parts stays out."""

import random
from collections import Counter

import pytest

from phantomset.data.cohorts import save
from phantomset.data.quarantine.ledger import Ledger
from phantomset.data.records import Cohort, ImageSpec, Record
from phantomset.data.splitting.growth import PARTS, dealt
from phantomset.data.splitting.split import SplitSettings, split
from phantomset.data.workspace import Workspace


def _record(patient: int, image: int = 0, group: str = "", subject: str = "") -> Record:
    digest = f"{random.Random(f'{patient}-{image}').getrandbits(256):064x}"
    name = subject or f"s{patient}"
    return Record(digest, digest, patient % 2, name, group or name)


def _cohort(workspace: Workspace, records: list[Record]) -> Cohort:
    """A stored cohort of the records, named by them."""
    ordered = tuple(sorted(records, key=lambda record: record.digest))
    name = f"{hash(tuple(record.digest for record in ordered)) & (2**64 - 1):064x}"
    cohort = Cohort(name, ImageSpec(1, 8, 8), ("a", "b"), ordered, len(ordered), {}, {}, True)
    save(workspace, name[:32], cohort, Ledger())
    return cohort


def _where(cohort: Cohort, made: object) -> dict[str, str]:
    """The part of each image."""
    return {cohort.records[i].digest: part for part in PARTS for i in getattr(made, part)}


def test_adding_data_moves_nobody(workspace: Workspace) -> None:
    """300 patients, then 200 more and a second image of each old one: every old image stays where it was, and
    the new images of old patients go to their patients.
    """
    old = [_record(n) for n in range(300)]
    first = _cohort(workspace, old)
    before = _where(first, split(first, SplitSettings(), workspace))
    more = old + [_record(n, 1) for n in range(300)] + [_record(n) for n in range(300, 500)]
    grown = _cohort(workspace, more)
    made = split(grown, SplitSettings(), workspace)
    after = _where(grown, made)
    assert {digest: after[digest] for digest in before} == before
    part = {record.subject: before[record.digest] for record in first.records}
    assert all(after[r.digest] == part[r.subject] for r in grown.records if r.subject in part)
    assert len(after) == 800
    assert made.left_out == ()
    assert split(grown, SplitSettings(), workspace) == made


def test_newcomers_come_at_the_same_shares(workspace: Workspace) -> None:
    """Of 2,000 newcomers the shares are 0.5 / 0.3 / 0.2 within four standard deviations (0.045)."""
    settings = SplitSettings(train=0.5, holdout=0.3)
    old = [_record(n) for n in range(100)]
    split(_cohort(workspace, old), settings, workspace)
    grown = _cohort(workspace, old + [_record(n) for n in range(100, 2100)])
    after = _where(grown, split(grown, settings, workspace))
    known = {record.digest for record in old}
    found = Counter(part for digest, part in after.items() if digest not in known)
    assert [found[part] / 2000 for part in PARTS] == pytest.approx([0.5, 0.3, 0.2], abs=0.045)


def test_the_shares_stay_when_a_cohort_becomes_large(workspace: Workspace) -> None:
    """Below 3,000 patients the default is 40 / 40 / 20, above 50 / 35 / 15; the first shares stay."""
    old = [_record(n) for n in range(2900)]
    split(_cohort(workspace, old), SplitSettings(), workspace)
    grown = _cohort(workspace, old + [_record(n) for n in range(2900, 5000)])
    made = split(grown, SplitSettings(), workspace)
    shares = [len(getattr(made, part)) / 5000 for part in PARTS]
    assert shares == pytest.approx([0.4, 0.4, 0.2], abs=0.02)


def test_another_seed_other_shares_and_other_images_are_other_splits(workspace: Workspace) -> None:
    """Only a cohort with some of the same images, under the same settings, goes on."""
    old = [_record(n) for n in range(90)]
    first = _cohort(workspace, old)
    before = _where(first, split(first, SplitSettings(), workspace))
    grown = _cohort(workspace, [*old, _record(1000)])
    for settings in (SplitSettings(seed=1), SplitSettings(train=0.6, holdout=0.2)):
        after = _where(grown, split(grown, settings, workspace))
        assert {digest: after[digest] for digest in before} != before
    strangers = _cohort(workspace, [_record(n, 7) for n in range(90)])
    alone = split(strangers, SplitSettings(), workspace)
    assert [len(getattr(alone, part)) for part in PARTS] == [36, 36, 18]


def test_a_record_that_would_join_two_parts_is_left_out(workspace: Workspace) -> None:
    """A new copy links a patient of train with one of holdout: both stay, the link is in no part."""
    old = [_record(n) for n in range(60)]
    first = _cohort(workspace, old)
    before = _where(first, split(first, SplitSettings(), workspace))
    train = next(r for r in old if before[r.digest] == "train")
    holdout = next(r for r in old if before[r.digest] == "holdout")
    joined = {train.subject, holdout.subject}
    records = [
        Record(r.digest, r.origin, r.label, r.subject, "joined" if r.subject in joined else r.group)
        for r in old
    ]
    records.append(_record(999, group="joined", subject="newcomer"))
    grown = _cohort(workspace, records)
    made = split(grown, SplitSettings(), workspace)
    after = _where(grown, made)
    assert after[train.digest] == "train"
    assert after[holdout.digest] == "holdout"
    assert [grown.records[i].subject for i in made.left_out] == ["newcomer"]


def test_cards_are_dealt_at_the_shares() -> None:
    """The hash decides alone; the seed is another deal."""
    names = [str(n) for n in range(3000)]
    deal = [dealt(name, (0.4, 0.4, 0.2), 0) for name in names]
    assert [deal.count(part) / 3000 for part in range(3)] == pytest.approx([0.4, 0.4, 0.2], abs=0.04)
    assert deal == [dealt(name, (0.4, 0.4, 0.2), 0) for name in names]
    assert deal != [dealt(name, (0.4, 0.4, 0.2), 1) for name in names]
