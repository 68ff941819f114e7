"""Does the demo live on a lucky seed? Runs it over many seeds and counts what the gate says.

    python tests/benchmarks/demo_seeds.py --seeds 1 10 --out demo-seeds.json

Each seed has its own cohort of phantoms, its own workspace and its own key. Results are appended, so an
interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run_demo(seed: int, extra: list[str]) -> dict:
    """Return exit code, seconds and the last JSON object of one demo in a place of its own."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"PHANTOMSET_KEY_FILE": f"{place}/config/key"}
        command = [str(Path(sys.executable).parent / "phantomset"), "demo", "--json", "--plain"]
        command += ["--seed", str(seed), "--workspace", f"{place}/workspace", *extra]
        started = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        answer = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr[-2000:]}
        return {
            "seed": seed,
            "exit": done.returncode,
            "seconds": round(time.monotonic() - started, 1),
        } | answer


def main() -> None:
    """Run the demo for each seed of the range, both ends included."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs=2, type=int, default=(1, 10), metavar=("FIRST", "LAST"))
    parser.add_argument("--out", type=Path, default=Path("demo-seeds.json"))
    parser.add_argument(
        "--leaky", action="store_true", help="the generator that memorises: every seed must FAIL"
    )
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {entry["seed"] for entry in results}
    for seed in range(options.seeds[0], options.seeds[1] + 1):
        if seed not in done:
            results.append(run_demo(seed, ["--leaky"] if options.leaky else []))
            options.out.write_text(json.dumps(results, indent=2))
            print(seed, results[-1]["exit"], results[-1]["seconds"], flush=True)
    wanted = 3 if options.leaky else 0
    print(f"exit code {wanted}: {sum(entry['exit'] == wanted for entry in results)} of {len(results)}")


if __name__ == "__main__":
    main()
