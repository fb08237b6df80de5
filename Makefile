.PHONY: setup run test check bench fuzz soak audit generate clean

setup: ## .venv with everything in it, a Claude Code CLI if there is none, and the web client
	@scripts/setup
	@scripts/web

run: setup ## start the server (make run ARGS="--port 9000")
	@scripts/run $(ARGS)

# Four at a time, whatever the number of cores: many tests wait for something.
test: check ## everything that must hold
	.venv/bin/pytest -n 4 --dist worksteal $(PYTEST)

check: setup-tests ## style, types, the floors of the house, generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/generate.py --check
	scripts/web check
	scripts/web test

setup-tests:
	@POCKET_AGENT_OWN_CLAUDE=1 scripts/setup
	@scripts/tools prometheus prometheus-alertmanager prometheus-node-exporter prometheus-blackbox-exporter systemd libsystemd-shared nginx caddy openssl chromium bubblewrap
	@scripts/grafana
	@scripts/web
.PHONY: setup-tests

bench: setup-tests ## what docs/performance.md promises
	.venv/bin/python -m benchmarks $(ARGS)

fuzz: setup-tests ## frames, HTTP and settings that nobody has thought of, for longer than the tests do (make fuzz FUZZ=20000)
	FUZZ_EXAMPLES=$(or $(FUZZ),5000) .venv/bin/pytest -n 2 tests/fuzz --timeout 0

soak: setup-tests ## long runs: kills at random points, for SOAK seconds (make soak SOAK=3600)
	SOAK_SECONDS=$(or $(SOAK),300) .venv/bin/pytest -s tests/soak --timeout 0

audit: ## known holes in what is pinned (asks services on the network, so no test does it)
	@scripts/audit

generate: setup ## write the generated documents again
	.venv/bin/python scripts/generate.py

clean:
	rm -rf .venv .tools node_modules tests/grafana/node_modules webui/node_modules src/pocket_agent/web build dist
