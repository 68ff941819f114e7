"""What was kept out and why, and what a person let in again."""
