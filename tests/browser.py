"""A real headless Chromium for the tests of pages."""

import contextlib
import json

from selenium import webdriver

# Nothing that Chromium would do over the network on its own account.
QUIET = ("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic", "no-first-run")


class Browser:
    """A page in Chromium; ``driver`` is Selenium's."""

    def __init__(self, driver):
        self.driver = driver
        self.run = driver.execute_script
        driver.execute_cdp_cmd("Network.enable", {})

    def open(self, path, width=1280, dark=False):
        """Opens the file at ``path``, ``width`` pixels wide, by day or by night."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        # What is left in the logs belongs to the page before.
        self.complaints()
        self.requests()
        self.driver.get(path.as_uri())

    def complaints(self):
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """The addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        """The text of every element that ``selector`` finds, shown or not."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector)


@contextlib.contextmanager
def opened(chromium, chromedriver, profile):
    """Yields a :class:`Browser`, run from the programs at the two paths, that keeps its files in ``profile``."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}", *QUIET):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
