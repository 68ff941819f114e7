"""Recipe, stages, release, report, Prefect and the command line."""

if __name__ != "phantomset.pipelines":  # the same file under two names would be two modules
    raise ImportError("import phantomset.pipelines, not pipelines")

import os

# OpenMP's barriers otherwise spin against a descheduled peer and starve both. torch reads this when it is
# imported, and reading a recipe may import it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
