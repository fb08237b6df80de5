"""The wire: client frames to typed requests, server messages to bytes, a schema of both. No I/O."""
