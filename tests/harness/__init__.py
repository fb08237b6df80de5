"""Real parts for tests to run against: the server as a process, the CLI, a stand-in for it."""
