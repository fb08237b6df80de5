"""`python -m pocket_agent.cli` is `pocket-agent`."""

from pocket_agent.cli.main import main

main()
