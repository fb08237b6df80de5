"""Puts into a package what its source does not hold: the web client, the runbooks, and the commit it was built from."""

import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACES = {"wheel": "pocket_agent", "sdist": "src/pocket_agent"}


class PackageHook(BuildHookInterface[Any]):
    """The build hook of this project; a source distribution, which is no checkout, hands on what it was given.

    An editable installation has its checkout for all that.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files, when the build begins."""
        if version == "editable":
            return
        root = Path(self.root)
        self._build_web(root)
        self._add_revision(root, build_data)
        if self.target_name == "wheel":  # a source distribution has them in docs/
            build_data["force_include"][str(root / "docs" / "runbooks")] = "pocket_agent/runbooks"

    def _build_web(self, root: Path) -> None:
        script = root / "scripts" / "web"
        if script.exists():
            subprocess.run([str(script)], check=True)  # noqa: S603 - our own
        if not (root / "src" / "pocket_agent" / "web" / "index.html").exists():
            self.app.display_warning(
                "The web client is not built (it needs Node 20.19 or newer and npm): this package is made without it."
            )

    def _add_revision(self, root: Path, build_data: dict[str, Any]) -> None:
        code = runpy.run_path(str(root / "src" / "pocket_agent" / "observability" / "revision.py"))
        found = code["checkout_revision"](root)
        if found is None:
            return
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / code["FILE"]
        file.write_text(found + "\n", "utf-8")
        build_data["force_include"][str(file)] = f"{_PLACES[self.target_name]}/{code['FILE']}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clean up, when the build is over."""
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()
