"""Builds the wheel; everything else is in pyproject.toml.

presets/, spaces/ and a few files stay at the top of the checkout, where people look for them. setuptools cannot take
data from outside a package, so they are copied into ``studio/shipped`` of the wheel here.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("presets", "spaces", "app.py", "requirements.txt", "constraints.txt", "LICENSE")


class BuildWithShippedFiles(build_py):
    """The build of Python files, then a copy of what is shipped beside them."""

    def run(self) -> None:
        """Build; an editable install uses the checkout itself."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "studio" / "shipped"
        for name in SHIPPED:
            source = Path(__file__).parent / name
            if source.is_dir():
                shutil.copytree(
                    source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True
                )
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(cmdclass={"build_py": BuildWithShippedFiles})
