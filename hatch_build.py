"""Writes into a package which commit it was built from; an editable installation has its checkout for that."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACES = {"wheel": "pocket_agent", "sdist": "src/pocket_agent"}


class RevisionHook(BuildHookInterface[Any]):
    """The build hook of this project; a source distribution, which is no checkout, hands its own file on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file, when the build begins."""
        if version == "editable":
            return
        root = Path(self.root)
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
