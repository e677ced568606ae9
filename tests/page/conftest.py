"""The browser, for all tests of the chat page."""

from page_browser import browser, visit  # noqa: F401
