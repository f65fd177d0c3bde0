"""Backbones: from images of frames to features."""
