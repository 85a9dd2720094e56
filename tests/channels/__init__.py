"""Tests of live channels."""
