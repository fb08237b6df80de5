"""`python -m pocket_agent.cli`: the same as `pocket-agent`."""

from pocket_agent.cli.main import main

main()
