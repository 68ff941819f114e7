"""Networks, games and the one training engine. Knows no disk layout and no orchestrator."""

if __name__ != "phantomset.ganmodels":  # the same file under two names would be two modules
    raise ImportError("import phantomset.ganmodels, not ganmodels")
