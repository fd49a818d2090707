"""The window: the only place that knows napari and Qt. A widget here holds no science; jobs run in other processes."""
