.PHONY: setup run test check bench fuzz soak audit generate clean

setup: ## .venv with everything in it, a Claude Code CLI if there is none, and the web client
	@scripts/setup
	@scripts/web

run: setup ## start the server (make run ARGS="--port 9000")
	@scripts/run $(ARGS)

# The checks run at the same time as the tests, which leave a core idle whenever they wait; what they say is printed
# when both have ended. Four tests at a time, whatever the number of cores, for the same reason.
test: setup-tests ## all checks and all tests but the long ones (see soak)
	@mkdir -p build
	@$(MAKE) --no-print-directory --jobs=2 --keep-going checks-logged tests; status=$$?; cat build/checks.log; exit $$status

check: setup-tests checks ## style, types, import rules, generated files, words, the web client's unit tests

checks:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/generate.py --check
	.venv/bin/python scripts/prose.py
	scripts/web check
	scripts/web test

checks-logged:
	@$(MAKE) --no-print-directory checks >build/checks.log 2>&1

tests:
	.venv/bin/pytest -n 4 --dist worksteal $(PYTEST)
.PHONY: checks checks-logged tests

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

soak: setup-tests ## tests marked soak (repetition, floods, alerts end to end), then kills at random points for SOAK seconds
	.venv/bin/pytest -n 2 --dist loadfile -m soak $(PYTEST)
	SOAK_SECONDS=$(or $(SOAK),300) .venv/bin/pytest -s tests/soak --timeout 0

audit: ## known holes in what is pinned (asks services on the network, so no test does it)
	@scripts/audit

generate: setup ## write the generated documents again
	.venv/bin/python scripts/generate.py

clean:
	rm -rf .venv .tools node_modules tests/grafana/node_modules webui/node_modules src/pocket_agent/web build dist
