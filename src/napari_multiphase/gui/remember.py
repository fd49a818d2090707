"""What the window remembers for a user between two starts, and what napari's preferences say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings

PLUGIN = "napari-multiphase"
MOST_RECENT = 10


def _store() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, PLUGIN, "window")


def recall(key: str, default: Any = None) -> Any:
    """A remembered choice (JSON types), or `default`."""
    try:
        return json.loads(str(_store().value(key, "null"))) or default
    except ValueError:
        return default


def remember(key: str, value: Any) -> None:
    """Keep a choice (JSON types) for the next start."""
    _store().setValue(key, json.dumps(value))


def recent() -> list[list[Path]]:
    """What was opened lately, newest first; each entry is the list of paths opened together, all still there."""
    entries = [[Path(path) for path in entry] for entry in recall("recent", [])]
    return [entry for entry in entries if entry and all(path.exists() for path in entry)]


def add_recent(paths: list[Path]) -> None:
    """Put `paths` on top of the recent list."""
    entry = [str(path) for path in paths]
    others = [other for other in recall("recent", []) if other != entry]
    remember("recent", [entry, *others][:MOST_RECENT])


def known_models() -> list[Path]:
    """Folders of all models: those used from where they lie, then the installed ones. It reads disks."""
    from napari_multiphase.io.models import installed

    own = [Path(folder) for folder in recall("model_folders", [])]
    return list(dict.fromkeys(folder.resolve() for folder in (*own, *installed()) if folder.is_dir()))


def preference(section: str, name: str, default: Any) -> Any:
    """A value of napari's Preferences > Multiphase, or `default` where the plugin is not registered."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except (KeyError, AttributeError):
        return default
