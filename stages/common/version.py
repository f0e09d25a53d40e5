"""The version of headstart, as in CHANGELOG.md."""

VERSION = "0.1"
