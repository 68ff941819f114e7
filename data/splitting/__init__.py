"""Who belongs together, which images are copies, and who goes into which part."""
