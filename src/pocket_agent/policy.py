"""The choices of a client for an agent, checked against the settings at the request and again at the start."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pocket_agent.claude.confinement import Confinement, find_confinement
from pocket_agent.directory import Directories, private_paths
from pocket_agent.errors import ForbiddenError, InvalidPathError
from pocket_agent.model import LOCAL_DEVICE, USER_PREFIX, ExecuteOptions
from pocket_agent.settings import TOOL, CurrentSettings, LoadedSettings

BYPASS: Final = "bypassPermissions"  # the permission mode without approvals
_TOOL: Final = re.compile(TOOL)


def examine_confinement(loaded: LoadedSettings, environment: Mapping[str, str]) -> Confinement:
    """How agents are confined with these settings. Runs bwrap, and waits for it.

    The data directory and the files of keys, tokens and settings are hidden. `environment` is the server's own.
    """
    settings = loaded.settings
    metrics, notifications, monitoring = settings.metrics, settings.notifications, settings.monitoring
    files = (
        *(loaded.file, settings.server.tls.key, metrics.token_file, notifications.urls_file),
        *(monitoring.slack_url_file, monitoring.pagerduty_key_file, monitoring.email_password_file),
        *(monitoring.webhook_url_file, monitoring.watchdog_url_file),
    )
    hidden = [settings.data.dir, *(file for file in files if file is not None)]
    return find_confinement(
        settings.claude.confinement,
        environment.get("PATH"),
        [path for name in hidden for path in private_paths(name)],
        private_paths(settings.data.dir / "demo" / "home") if settings.demo else (),
    )


class _Rule(msgspec.Struct, rename="camel"):
    tool_name: str
    rule_content: str | None = None

    def __str__(self) -> str:
        return self.tool_name if self.rule_content is None else f"{self.tool_name}({self.rule_content})"


class _Update(msgspec.Struct):
    """A change of the approval rules, as the CLI suggests it (observed, 2.1.330)."""

    type: str
    behavior: str = "allow"
    mode: str | None = None
    rules: tuple[_Rule, ...] = ()
    directories: tuple[str, ...] = ()


def user_id(name: str) -> str:
    return USER_PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16]


class Policy:
    """Checks options, permission modes, tools and users against the settings."""

    def __init__(self, settings: CurrentSettings) -> None:
        self._settings = settings
        self.directories = Directories(settings, settings.current.data.dir)

    async def admit(self, options: ExecuteOptions, directory: str) -> ExecuteOptions:
        """Check options; returns them with real paths, and with the tools that the settings disallow.

        Call it when a prompt comes and again when it starts, since settings, links and directories may have changed.

        Args:
            options: as a client chose them, or as this returned them.
            directory: the project's real path.

        Raises:
            ForbiddenError: the settings do not allow an option.
            InvalidPathError: a directory or a file is missing, or outside the allowed roots.
        """
        await self.directories.check(Path(directory))
        claude = self._settings.current.claude
        if options.dangerously_skip_permissions and not claude.allow_dangerously_skip_permissions:
            raise ForbiddenError(
                "dangerously_skip_permissions is switched off on this server "
                "(claude.allow_dangerously_skip_permissions)."
            )
        self.check_mode(options.permission_mode)
        self._check_tools(options.allowed_tools)
        return msgspec.structs.replace(
            options,
            add_dirs=tuple([await self._directory(path) for path in options.add_dirs]),
            mcp_config=await self._mcp_config(options.mcp_config, directory),
            disallowed_tools=tuple(dict.fromkeys((*options.disallowed_tools, *claude.disallowed_tools))),
        )

    @property
    def default_mode(self) -> str | None:
        """The permission mode of prompts and projects without one; None is the CLI's default."""
        return self._settings.current.claude.permission_mode

    def check_mode(self, mode: str | None) -> None:
        """Raise ForbiddenError for a permission mode that clients may not choose; the server's default is allowed."""
        claude = self._settings.current.claude
        if mode == BYPASS and not claude.allow_dangerously_skip_permissions:
            raise ForbiddenError(
                "The permission mode bypassPermissions is switched off on this server "
                "(claude.allow_dangerously_skip_permissions)."
            )
        if mode not in {None, claude.permission_mode, *claude.permission_modes}:
            raise ForbiddenError(f"The permission mode {mode} may not be chosen here (claude.permission_modes).")

    def check_maker(self, device_id: str | None) -> None:
        """Check the maker of a prompt or a pairing code, unless the store has it as a device.

        The store checks its devices itself, in the transaction that depends on it.

        Raises:
            ForbiddenError: the maker is a single sign-on user without access now, or a client without a token of a
                server that requires tokens now.
        """
        server = self._settings.current.server
        if device_id is None:
            return
        if device_id == LOCAL_DEVICE:
            ended = server.auth
        else:
            ended = device_id.startswith(USER_PREFIX) and device_id not in map(user_id, server.sso.users)
        if ended:
            raise ForbiddenError("The client that sent this has no access any more (server.auth, server.sso.users).")

    async def check_remembered(self, suggestions: bytes | msgspec.Raw) -> None:
        """Check the suggestions of the CLI (a JSON array) that `remember` would apply.

        Raises:
            ForbiddenError: a mode or a tool is not allowed here, or the suggestions cannot be read.
            InvalidPathError: a directory is outside the allowed roots.
        """
        try:
            updates = msgspec.json.decode(suggestions, type=list[_Update])
        except msgspec.DecodeError as error:
            raise ForbiddenError("This cannot be remembered, since it cannot be read; allow it once.") from error
        for update in updates:
            self.check_mode(update.mode)
            if update.behavior == "allow":
                self._check_tools(tuple(map(str, update.rules)))
            for path in update.directories:
                await self.directories.find(path)

    def _check_tools(self, tools: tuple[str, ...]) -> None:
        known = self._settings.current.claude.client_tools
        if known is None:
            return
        for tool in tools:
            # With commas or spaces the CLI would take one value for several tools.
            if not _TOOL.fullmatch(tool) or (tool not in known and tool.partition("(")[0] not in known):
                raise ForbiddenError(f"{tool[:100]!r} may not be used without asking here (claude.client_tools).")

    async def _directory(self, path: str) -> str:
        try:
            return str(await self.directories.find(path))
        except InvalidPathError as error:
            raise type(error)(f"options.add_dirs: {error.message}") from error

    async def _mcp_config(self, given: str | None, directory: str) -> str | None:
        """The real path of a file, or JSON unchanged; JSON can name programs at any path."""
        if given is None:
            return None
        if given.lstrip().startswith("{"):
            if self.directories.restricted:
                raise ForbiddenError(
                    "mcp_config must be a file inside the directories that this server allows (projects.allowed_roots)."
                )
            return given
        try:
            return str(await self.directories.find_file(str(Path(directory) / given)))
        except InvalidPathError as error:
            raise type(error)(f"options.mcp_config: {error.message}") from error
