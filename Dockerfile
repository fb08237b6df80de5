# syntax=docker/dockerfile:1
# Pocket Agent Server with the Claude Code CLI. See docs/deployment/docker.md.

# Pin them to a digest where you build: --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:...
ARG NODE_IMAGE=node:22-bookworm-slim
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${NODE_IMAGE} AS claude
ARG CLAUDE_VERSION=2.1.332
# No package runs its installation step but those that are named: this one puts its program into place.
RUN npm install --global --ignore-scripts --prefix /opt/claude "@anthropic-ai/claude-code@${CLAUDE_VERSION}" \
    && cd /opt/claude/lib/node_modules/@anthropic-ai/claude-code && node install.cjs \
    && /opt/claude/bin/claude --version

FROM ${NODE_IMAGE} AS web
WORKDIR /src/webui
COPY webui/package.json webui/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY webui ./
RUN npm run build

FROM ${PYTHON_IMAGE} AS build
RUN python -m venv /opt/pocket-agent
WORKDIR /src
COPY constraints.txt pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
COPY docs ./docs
COPY --from=web /src/src/pocket_agent/web ./src/pocket_agent/web
RUN /opt/pocket-agent/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM ${PYTHON_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git openssh-client ripgrep tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 agent \
    && install --directory --owner agent --mode 0700 /var/lib/pocket-agent /projects
COPY --from=claude /opt/claude /opt/claude
COPY --from=build /opt/pocket-agent /opt/pocket-agent
ENV PATH=/opt/pocket-agent/bin:/opt/claude/bin:$PATH \
    PA_DATA_DIR=/var/lib/pocket-agent \
    PA_SERVER_HOST=0.0.0.0 \
    PA_PROJECTS_ALLOWED_ROOTS=/projects
USER agent
WORKDIR /projects
VOLUME ["/var/lib/pocket-agent", "/home/agent"]
EXPOSE 8443 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.urlopen(f'https://127.0.0.1:{os.environ.get(\"PA_SERVER_PORT\", 8443)}/livez', timeout=4, context=ssl._create_unverified_context())"]
# Agents that outlive a restart of the server inside the container need somebody who reaps them.
ENTRYPOINT ["tini", "--"]
CMD ["pocket-agent", "serve"]
