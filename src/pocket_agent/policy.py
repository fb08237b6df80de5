"""What clients may choose for an agent: by the settings, when they ask for it and again when it starts."""

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

BYPASS: Final = "bypassPermissions"
"""The permission mode that asks for nothing."""
_TOOL: Final = re.compile(TOOL)


def examine_confinement(loaded: LoadedSettings, environment: Mapping[str, str]) -> Confinement:
    """How agents are confined with these settings. Runs bwrap, and waits for it.

    Args:
        loaded: the settings; what is hidden are the data directory and the files of keys, tokens and settings.
        environment: the server's own.
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
    """A change of what needs an approval, as the CLI suggests it (observed, 2.1.330)."""

    type: str
    behavior: str = "allow"
    mode: str | None = None
    rules: tuple[_Rule, ...] = ()
    directories: tuple[str, ...] = ()


def user_id(name: str) -> str:
    """The id of a user whom a proxy signs in by this name."""
    return USER_PREFIX + hashlib.sha256(name.encode()).hexdigest()[:16]


class Policy:
    """The settings that bear on it.

    Args:
        settings: all of them.
    """

    def __init__(self, settings: CurrentSettings) -> None:
        self._settings = settings
        self.directories = Directories(settings, settings.current.data.dir)

    async def admit(self, options: ExecuteOptions, directory: str) -> ExecuteOptions:
        """The same options with real paths, and with what the settings add.

        Meant to be asked twice: what was allowed when a prompt came may be no longer when its turn
        comes, since settings, links and directories change meanwhile.

        Args:
            options: as a client chose them; what was admitted is admitted again.
            directory: the project's real path.

        Raises:
            ForbiddenError: the settings do not allow something.
            InvalidPathError: a directory or a file is missing, or outside the allowed roots.
        """
        await self.directories.check(Path(directory))
        if (
            options.dangerously_skip_permissions
            and not self._settings.current.claude.allow_dangerously_skip_permissions
        ):
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
            disallowed_tools=tuple(
                dict.fromkeys((*options.disallowed_tools, *self._settings.current.claude.disallowed_tools))
            ),
        )

    @property
    def default_mode(self) -> str | None:
        """The permission mode of prompts and projects that choose none; None leaves it to the CLI."""
        return self._settings.current.claude.permission_mode

    def check_mode(self, mode: str | None) -> None:
        """Refuse a permission mode that clients may not choose; the server's own default always may be.

        Raises:
            ForbiddenError: it may not be chosen.
        """
        if mode == BYPASS and not self._settings.current.claude.allow_dangerously_skip_permissions:
            raise ForbiddenError(
                "The permission mode bypassPermissions is switched off on this server "
                "(claude.allow_dangerously_skip_permissions)."
            )
        if (
            mode is not None
            and mode != self._settings.current.claude.permission_mode
            and mode not in self._settings.current.claude.permission_modes
        ):
            raise ForbiddenError(f"The permission mode {mode} may not be chosen here (claude.permission_modes).")

    def check_maker(self, device_id: str | None) -> None:
        """Refuse the request of a single sign-on user, who has no row among the devices, once access has ended.

        Args:
            device_id: of a prompt or a pairing code. Devices with a row are judged by the store, in the
                transaction that depends on it.

        Raises:
            ForbiddenError: a user whom the settings let in no more, or a client of a server without tokens
                that asks for tokens now.
        """
        if device_id is None:
            return
        if device_id == LOCAL_DEVICE and not self._settings.current.server.auth:
            return
        if device_id.startswith(USER_PREFIX) and device_id in map(user_id, self._settings.current.server.sso.users):
            return
        if device_id == LOCAL_DEVICE or device_id.startswith(USER_PREFIX):
            raise ForbiddenError("Whoever asked for this may not come in any more (server.auth, server.sso.users).")

    async def check_remembered(self, suggestions: bytes | msgspec.Raw) -> None:
        """Refuse suggestions that would give an agent what clients may not choose for it.

        Args:
            suggestions: what would make the question unnecessary, by the CLI (a JSON array).

        Raises:
            ForbiddenError: a mode or a tool may not be chosen here, or the suggestions cannot be read.
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
            raise InvalidPathError(f"options.add_dirs: {error.message}") from error

    async def _mcp_config(self, given: str | None, directory: str) -> str | None:
        """A file by its real path, or JSON as it is; JSON names programs to run wherever they are."""
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
            raise InvalidPathError(f"options.mcp_config: {error.message}") from error
