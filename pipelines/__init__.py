"""Recipe, stages, release, report, Prefect and the command line."""

if __name__ != "phantomset.pipelines":  # the same file under two names would be two modules
    raise ImportError("import phantomset.pipelines, not pipelines")
