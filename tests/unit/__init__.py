"""Tests that mirror the packages of the code."""
