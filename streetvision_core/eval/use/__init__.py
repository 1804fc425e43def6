"""What decisions are worth in use: a promised recall, other shares of roadwork, and net benefit."""
