"""One file to canonical images, in worker processes with limits, and the journal of what became of it."""
