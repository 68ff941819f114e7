"""Text in pixels: where a header tells of it, and where it is read in the picture."""
