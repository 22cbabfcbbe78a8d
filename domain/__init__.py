"""What is true of conversations, agents and blocks: pure rules, no I/O, no clock, no randomness."""
