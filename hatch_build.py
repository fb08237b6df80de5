"""Adds to a package what is not in its source: the commit that it was built from, and the runbooks that it serves."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACES = {"wheel": "pocket_agent", "sdist": "src/pocket_agent"}


class PackageHook(BuildHookInterface[Any]):
    """The build hook of this project; an editable installation has its checkout for all this."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files, when the build begins."""
        if version == "editable":
            return
        root = Path(self.root)
        self._add_revision(root, build_data)
        if self.target_name == "wheel":  # a source distribution has them in docs/
            build_data["force_include"][str(root / "docs" / "runbooks")] = "pocket_agent/runbooks"

    def _add_revision(self, root: Path, build_data: dict[str, Any]) -> None:
        """Write down the commit; a source distribution, which is no checkout, hands its own file on."""
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
