"""The independent search for texts of the source in what was written. Shares no code with the way in."""
