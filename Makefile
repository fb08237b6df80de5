.PHONY: setup run test check bench fuzz soak audit generate clean

# Images for containers often set it. Each of the four test processes would compile all tests anew, and each command of
# a test the program.
unexport PYTHONDONTWRITEBYTECODE

setup: ## .venv with all dependencies, a Claude Code CLI if there is none, and the web client
	@scripts/setup
	@scripts/web

run: setup ## start the server (make run ARGS="--port 9000")
	@scripts/run $(ARGS)

# The checks run in parallel to the tests, which often wait and leave a core idle; their output is printed at the end.
# For the same reason four tests run at a time, whatever the number of cores.
test: setup-tests ## all checks, and all tests except the long ones (see soak)
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
	@scripts/tools prometheus prometheus-alertmanager prometheus-node-exporter prometheus-blackbox-exporter systemd libsystemd-shared nginx caddy openssl chromium chromium-headless-shell bubblewrap
	@scripts/tools --suite=forky prometheus promtool prometheus-alertmanager prometheus-node-exporter prometheus-blackbox-exporter
	@scripts/grafana
	@scripts/web
	@[ -e build/compiled ] || { mkdir -p build && .venv/bin/pytest --collect-only -q >build/compiled; } # once, not in each test process
.PHONY: setup-tests

bench: setup-tests ## the measurements of docs/performance.md
	.venv/bin/python -m benchmarks $(ARGS)

fuzz: setup-tests ## random frames, HTTP requests and settings, for longer than the tests do (make fuzz FUZZ=20000)
	FUZZ_EXAMPLES=$(or $(FUZZ),5000) .venv/bin/pytest -n 2 tests/fuzz --timeout 0

soak: setup-tests ## tests marked soak (repetition, floods, alerts end to end), 1,000 examples of each property, then kills at random points for SOAK seconds
	SOAK_SECONDS=$(or $(SOAK),300) .venv/bin/pytest -n 2 --dist loadfile -m soak $(PYTEST)
	.venv/bin/pytest -n 2 -m "hypothesis and not soak" --hypothesis-profile soak $(PYTEST)
	SOAK_SECONDS=$(or $(SOAK),300) .venv/bin/pytest -s tests/soak --timeout 0

audit: ## known vulnerabilities of pinned dependencies (needs the network, so no test runs it)
	@scripts/audit

generate: setup ## update the generated files
	.venv/bin/python scripts/generate.py

clean:
	rm -rf .venv .tools node_modules tests/grafana/node_modules webui/node_modules src/pocket_agent/web build dist
