"""Work outside the window's process: the client that asks, the worker that computes, the child that parses."""

from napari_multiphase.jobs.client import Client, Handle
from napari_multiphase.jobs.protocol import JobError

__all__ = ["Client", "Handle", "JobError"]
