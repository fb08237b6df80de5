"""A load test of a running server: requests at a fixed rate over many connections, and a report of what came of it."""
