"""Real and synthetic records, on disk and in memory. Knows no network and no orchestrator."""

if __name__ != "phantomset.data":  # the same file under two names would be two modules
    raise ImportError("import phantomset.data, not data")
