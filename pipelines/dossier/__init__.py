"""The access-committee dossier: what its lists ask, and what a run has measured or people have signed."""
