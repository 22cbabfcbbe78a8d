"""What is true of conversations, agents, blocks and archives: pure rules, no I/O, no clock, no randomness."""
