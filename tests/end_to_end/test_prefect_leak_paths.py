"""Where the pinned Prefect keeps what it is given: the facts that the edge to it is built on.

A new version that keeps more, or that hides what this one shows, fails here before it is taken.
"""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FLOW = """
import logging
from prefect import flow, get_client, get_run_logger, task
from pydantic import BaseModel, SecretStr


class Recipe(BaseModel):
    word: SecretStr = SecretStr("none")


@task
def plain(text):
    return "WORD-returned"


@task(persist_result=True)
def kept(text):
    return "WORD-persisted"


@task(log_prints=True)
def speaks():
    print("WORD-printed")
    get_run_logger().warning("WORD-logged")


@task
def fails():
    raise ValueError("WORD-raised")


@flow
def shown(name: str, recipe: Recipe):
    assert recipe.word.get_secret_value() == "WORD-secret"
    plain("WORD-argument")
    kept("WORD-argument")
    speaks()
    fails(return_state=True)
    return "WORD-flow-return"


shown("WORD-parameter", Recipe(word="WORD-secret"))
assert Recipe(word="WORD-secret").model_dump(mode="json") == {"word": "*" * 10}
with get_client(sync_client=True) as client:
    flow_id = client.create_flow(shown)
    deployment = client.create_deployment(flow_id, "from-a-form")
    asked = {"name": "n", "recipe": {"word": "WORD-deployed"}}
    client.create_flow_run_from_deployment(deployment, parameters=asked)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a Prefect whose own server ran the flow above, logs sent to it."""
    place = tmp_path_factory.mktemp("prefect")
    script = place / "flow.py"
    script.write_text(FLOW)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own |= {
        "PREFECT_HOME": str(place / "home"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=own, timeout=600)
    assert done.returncode == 0, done.stderr
    return place / "home"


def columns(home: Path, word: str) -> set[str]:
    """Return ``table.column`` for every column of the database whose text holds the word."""
    found: set[str] = set()
    connection = sqlite3.connect(home / "prefect.db")
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    for table in tables:
        for _, column, *_ in connection.execute(f"pragma table_info('{table}')").fetchall():
            query = f'select count(*) from "{table}" where instr(cast("{column}" as text), ?)'  # noqa: S608 - the database's own names
            if connection.execute(query, (word,)).fetchone()[0]:
                found.add(f"{table}.{column}")
    connection.close()
    return found


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("parameter", "flow_run.parameters"),
        ("deployed", "flow_run.parameters"),
        ("printed", "log.message"),
        ("logged", "log.message"),
        ("raised", "task_run_state.message"),
        ("raised", "events.payload"),
    ],
)
def test_what_is_kept_in_clear_text(home: Path, word: str, place: str) -> None:
    """Parameters, log lines and what exceptions say; a secret too, when it comes through a deployment."""
    assert place in columns(home, f"WORD-{word}")


@pytest.mark.parametrize("word", ["secret", "argument", "returned", "flow-return", "persisted"])
def test_what_is_not_in_the_database(home: Path, word: str) -> None:
    """A secret handed to a flow in process, a task's arguments, and results."""
    assert columns(home, f"WORD-{word}") == set()


def test_only_a_persisted_result_is_stored(home: Path) -> None:
    """It lies in the storage folder, readable by whoever opens it; other results are kept nowhere."""
    (result,) = [path.read_bytes() for path in (home / "storage").rglob("*") if path.is_file()]
    assert b"WORD-persisted" in base64.b64decode(json.loads(result)["result"])
