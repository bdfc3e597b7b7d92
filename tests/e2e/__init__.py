"""Tests of whole processes, servers, browsers and documents."""
