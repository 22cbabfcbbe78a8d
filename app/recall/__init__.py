"""What was said, found again: search, the verdict on what was forgotten, requests rebuilt."""
