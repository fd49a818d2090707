"""Pictures of the real window for README and docs: ``make screenshots``.

Needs a display, a real one or ``xvfb-run -a -s "-screen 0 1920x1080x24" python docs/screenshots.py``. Opens the sample,
registers, segments, translates, compares and begins to correct it with the default models, and writes
docs/images/<what>.png, which the README shows; with ``--all`` also <what>-<width>x<height>-<theme>.png, to look at.
``--real hcc_015_dicom.zip`` does the same with a real pair and writes docs/images/real-<what>.png.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
SIZES = ((1280, 800), (1920, 1080))
THEMES = ("dark", "light")


def every_look(demo, what: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """One picture in each size and theme."""
    for width, height in SIZES:
        demo.viewer.window.resize(width, height)
        demo.rest(0.3)
        demo.viewer.reset_view()
        for theme in THEMES:
            demo.viewer.theme = theme
            demo.rest(0.3)
            demo.picture(folder / f"{what}-{width}x{height}-{theme}.png")
    shutil.copyfile(folder / f"{what}-1280x800-dark.png", folder / f"{what}.png")


def one_look(demo, what: str, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """One picture, in the smaller size."""
    demo.viewer.reset_view()
    demo.picture(folder / f"{what}.png")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--model", type=Path, help="a model folder instead of the default model")
    parser.add_argument("--real", type=Path, help="a real pair instead of the sample: one picture of each dock")
    parser.add_argument("--all", action="store_true", help="every size and theme")
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    settings = tempfile.TemporaryDirectory()  # pictures show a first start, not what this user chose last
    os.environ["XDG_CONFIG_HOME"] = os.environ["MULTIPHASE_DATA_DIR"] = settings.name
    import napari

    from napari_multiphase.gui.demo import Demo
    from napari_multiphase.gui.workbench import bring_forward

    viewer = napari.Viewer(title="napari")
    demo = Demo(viewer, model=options.model)
    viewer.window.resize(*SIZES[0])
    prefix, look = "real-" if options.real else "", every_look if options.all else one_look
    if options.real:
        demo.open_pair(options.real)
    else:
        demo.picture(options.out / "empty.png")
        demo.open_sample()
    demo.register()
    look(demo, f"{prefix}study", options.out)
    demo.study_dock.register.off.click()
    bring_forward(demo.segment_dock)
    demo.segment()
    look(demo, f"{prefix}segment", options.out)
    demo.translate()
    look(demo, f"{prefix}translate", options.out)
    demo.compare()
    look(demo, f"{prefix}compare", options.out)
    demo.compare_dock.compare.click()
    demo.correct()
    look(demo, f"{prefix}correct", options.out)
    if not options.real:
        demo.train()
        look(demo, "train", options.out)
    viewer.close()
    settings.cleanup()


if __name__ == "__main__":
    main()
