"""What settings can say of agents: permission modes, tools, and variables of the environment."""

from typing import Final

from pocket_agent.config.collection import pattern_list

PERMISSION_MODES: Final = ("default", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions")
"""The values of the CLI's `--permission-mode` (2.1.330)."""

SETTING_SOURCES: Final = ("user", "project", "local")
"""The values of the CLI's `--setting-sources` (2.1.330)."""

TOOL: Final = r"[A-Za-z0-9_*-]+(?:\([^()]*\))?"
"""One tool, or one rule for its uses; what the CLI would take for several is none."""
TOOLS: Final = pattern_list("a list of tools such as WebFetch or Bash(rm:*)", TOOL)

INHERITED: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*", "TERM"),
    *("COLORTERM", "NO_COLOR", "CI", "EDITOR", "VISUAL", "PAGER", "XDG_*", "DISPLAY", "WAYLAND_DISPLAY"),
    *("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "GPG_*", "GIT_*"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "ENABLE_*", "BASH_*", "MCP_*", "MAX_*", "USE_BUILTIN_RIPGREP"),
    *("AWS_*", "GOOGLE_*", "GCLOUD_*", "CLOUD_ML_REGION", "CLOUDSDK_*", "VERTEX_*", "AZURE_*"),
    *("NODE_*", "NPM_CONFIG_*", "NVM_*", "VOLTA_*", "BUN_*", "DENO_*", "PYENV_*", "VIRTUAL_ENV", "UV_*", "PIP_*"),
    *("JAVA_HOME", "GRADLE_*", "MAVEN_*", "GOPATH", "GOROOT", "GOPROXY", "CARGO_*", "RUSTUP_*", "ANDROID_*"),
    *("DOCKER_*", "KUBECONFIG", "OTEL_*"),
)
"""What a developer's tools and the CLI itself need: paths, locale, proxies, and the CLI's own account."""

VARIABLE_NAMES: Final = pattern_list(
    "a list of names, each with or without a * at its end", r"\*|[A-Za-z_][A-Za-z0-9_]*\*?"
)
