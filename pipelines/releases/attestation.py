"""What a release states about itself, for machines: the verdict, and how it was made.

Each is an in-toto statement about ``manifest.json``, which in turn names every file by its SHA-256. Sources:
in-toto Statement v1; predicates test-result v0.1 and SLSA provenance v1.
"""

from typing import Any

from phantomset.pipelines.draft import Draft, set_digest
from phantomset.pipelines.redact import public_recipe
from phantomset.pipelines.releases.signing import Signer, sealed

FOLDER, SUFFIX = "attestations", ".dsse.json"
VERDICT, PROVENANCE = f"{FOLDER}/verdict{SUFFIX}", f"{FOLDER}/provenance{SUFFIX}"

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SLSA = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:phantomset:synthetic-image-set:v1"
BUILDER = "urn:phantomset:release"


def statement(name: str, sha256: str, kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """Return an in-toto statement about one file or noun."""
    subject = [{"name": name, "digest": {"sha256": sha256}}]
    return {"_type": STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate}


def attestations(draft: Draft, recipe: str, manifest_sha256: str, signer: Signer | None) -> dict[str, bytes]:
    """Return the envelopes of a release by their paths; unsigned where there is no signer.

    ``recipe`` is the digest of the recipe without its paths.
    """
    about = {
        VERDICT: (TEST_RESULT, _test_result(draft, recipe)),
        PROVENANCE: (SLSA, _provenance(draft)),
    }
    return {
        path: sealed(statement("manifest.json", manifest_sha256, kind, predicate), [signer] if signer else [])
        for path, (kind, predicate) in about.items()
    }


def _test_result(draft: Draft, recipe: str) -> dict[str, Any]:
    """Return the verdict as a test result: a check is a test, and INCONCLUSIVE or not evaluated a warning."""
    outcomes: dict[str, str] = {**draft.verdict.axes, **draft.public_verdict.get("checks", {})}

    def named(*statuses: str) -> list[str]:
        return sorted(name for name, status in outcomes.items() if status in statuses)

    return {
        "result": {"PASS": "PASSED", "FAIL": "FAILED"}.get(draft.verdict.status, "WARNED"),
        "configuration": [{"name": "recipe", "digest": {"sha256": recipe}}],
        "suite": draft.verdict.suite,
        "passedTests": named("PASS"),
        "warnedTests": named("INCONCLUSIVE", "NOT_EVALUATED"),
        "failedTests": named("FAIL"),
    }


def _provenance(draft: Draft) -> dict[str, Any]:
    packages = {name: version for name, version in draft.versions.items() if name != "python"}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"recipe": public_recipe(draft.recipe)},
            "internalParameters": {"python": draft.versions.get("python", "")},
            "resolvedDependencies": [
                {"uri": f"pkg:pypi/{name}@{version}", "name": name}
                for name, version in sorted(packages.items())
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"phantomset": packages.get("phantomset", "")}},
            "metadata": {
                "invocationId": set_digest(draft.synthetic),
                "finishedOn": f"{draft.created}T00:00:00Z",
            },
        },
    }
