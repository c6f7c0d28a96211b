"""The console: what the server shows to people, and what they can do there. Works without any script."""

from receiver.console.app import create_app as create_app
