"""Measures, checks and the gate. Knows a model only as the images that it made."""

if __name__ != "phantomset.validators":  # the same file under two names would be two modules
    raise ImportError("import phantomset.validators, not validators")
