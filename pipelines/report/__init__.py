"""The reports: a public page for whoever receives a set, a restricted one for the data office."""

from phantomset.pipelines.report.page import markdown, public_html, restricted_html

__all__ = ["markdown", "public_html", "restricted_html"]
