"""Blocks and backbones that two methods or more use."""
