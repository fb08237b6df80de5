"""A scripted model: the part of the Messages API that the real CLI needs, without an account."""
