"""The way into a folder or an archive, and what paths and label tables say of a file."""
