"""``python -m napari_multiphase``: the command line, and the compute worker that the window starts."""

from napari_multiphase.cli import main

if __name__ == "__main__":
    main()
