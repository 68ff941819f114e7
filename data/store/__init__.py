"""Pixels by digest: an archive of sealed packs, and a memory-mapped training cache that is made from it."""
