"""How often the gate errs, in small: the benchmarks' machinery on invented patients."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from phantomset.data.records import ImageSet
from phantomset.validators import gate
from phantomset.validators.audit import examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Rules
from phantomset.validators.policy import ALPHA_FAMILY, ALPHA_SCAN

from .conftest import smooth_images

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> argparse.Namespace:
    """220 patients in train and in holdout, 300 reference patients, 200 images a set."""
    return argparse.Namespace(
        patients=220,
        reference=300,
        count=200,
        seed=0,
        cache=tmp_path_factory.mktemp("cache"),
        policy="standard",
        controls_on=0,
        picks=1,
        beyond=False,
        rungs=[],
        gan_images=0,
    )


@pytest.fixture(scope="module")
def pool() -> ImageSet:
    """Some 1,000 invented patients."""
    return smooth_images(1000, 0, seed=2)


@pytest.fixture(scope="module")
def worlds() -> Iterator[ModuleType]:
    """The benchmarks' folder on the path, and worlds of a few generated images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import worlds

        patch.setattr(worlds, "GENERATED", 300)
        yield worlds
    for name in ("worlds", "pools", "false_alarms", "detection"):
        sys.modules.pop(name, None)


def test_what_is_remembered_is_what_is_measured(worlds: ModuleType, options, pool: ImageSet) -> None:
    """A split and a set that are looked up give the p-values of the same sets measured from the start; the
    second time the world comes from the cache.
    """
    world = worlds.World.open(pool, options, 0)
    assert world.found.keys() == world.spaces.keys()
    assert len(list(options.cache.glob("world-*.npz"))) == 1
    is_train = np.isin(world.population.patients, np.unique(world.population.patients)[::2])
    remembered = worlds.Remembered(
        worlds.World.open(pool, options, 0), is_train, world.kinds["fresh"][:200], Rules(), 3
    )
    measured = Context(remembered.evidence, Rules(), 3)
    measured.__dict__["verifier"] = world.verifier
    one, other = (
        {(f.check, f.group, f.metric): f.value for f in examine(context, ("privacy",)) if f.unit == "p"}
        for context in (remembered, measured)
    )
    assert one.keys() == other.keys()
    assert {check for check, *_ in one} >= {"copies", "attacks", "subgroups", "splits"}
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=0.05)


def test_clean_sets_raise_no_alarm(worlds: ModuleType, options, pool: ImageSet) -> None:
    """Six clean sets, of fresh patients and of a generator that knows others: none fails; seeded."""
    import false_alarms

    world = worlds.World.open(pool, options, 0)
    said = [false_alarms.trial(world, options, number) for number in range(6)]
    assert [result["privacy"] for result in said].count("FAIL") == 0
    assert {result["kind"] for result in said} == {"fresh", "generator"}
    assert false_alarms.trial(world, options, 0)["p"] == said[0]["p"]


def test_leaks_are_noticed(worlds: ModuleType, options, pool: ImageSet) -> None:
    """One split: silent on the clean set, loud on exact copies, on training images and on their density."""
    import detection

    cells = {(cell["cell"], cell["k"]): cell for cell in detection.split(pool, options, 0)["cells"]}

    def loud(cell: dict) -> bool:
        return cell["scan"] <= ALPHA_SCAN or cell.get("family", 1.0) <= ALPHA_FAMILY

    assert not loud(cells["clean", 0])
    leaks = [("exact", 1), ("mirror", 1), ("train", 0), ("kde 0.3", 0), ("kde 0.6", 0)]
    assert [name for name in leaks if not loud(cells[name])] == []


def test_every_line_names_the_suite(
    worlds: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that goes on keeps the lines there are, names the suite on new ones, and counts both."""
    import pools

    out = tmp_path / "lines.jsonl"
    out.write_text('{"trial": 0}\n')
    pools.go_on(out, 3, lambda number: {"trial": number})
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["trial"] for line in lines] == [0, 1, 2]
    assert [line.get("suite") for line in lines] == [None, gate.suite(), gate.suite()]
    told = capsys.readouterr().out
    assert "suite not recorded: 1 of 3" in told
    assert f"suite {gate.suite()}: 2 of 3" in told
