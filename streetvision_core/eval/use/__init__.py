"""The worth of decisions in use: a promised recall, other shares of roadwork, and net benefit."""
