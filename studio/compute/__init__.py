"""Devices: where to compute, how precisely, and how models fit."""
