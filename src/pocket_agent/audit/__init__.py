"""Who did what, when and from where: an append-only file whose lines are chained, so that a removed one shows."""
