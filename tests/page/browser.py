"""browser.py - headless Chromium for the tests of this folder: one driver, screens of several sizes and
both colour schemes, what the console and the network saw, and axe-core's findings."""

import json
import shutil
import sys
import time
import traceback
from pathlib import Path

import axe_core_python
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
WIDE, PHONE = (1100, 900), (360, 740)


def program(*names):
    found = next((path for path in map(shutil.which, names) if path), None)
    if not found:
        raise SystemExit(f"none of {', '.join(names)} is installed")
    return found


class Browser:
    def __init__(self, shots):
        options = Options()
        options.binary_location = program("chromium", "chromium-browser", "google-chrome")
        # A container has no user namespace for the sandbox, and little /dev/shm.
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                         "--hide-scrollbars", "--disable-background-networking", "--no-first-run"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
        self.driver.set_script_timeout(60)
        self.shots = shots
        shots.mkdir(parents=True, exist_ok=True)
        self.requests = []
        self.screen()

    def quit(self):
        self.driver.quit()

    def screen(self, size=WIDE, dark=False):
        self.size = size
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE})

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def shot(self, name):
        """The whole document as a picture for people, <shots>/<name>.png."""
        height = self.js("return document.documentElement.scrollHeight")
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": self.size[0], "height": min(max(height, self.size[1]), 6000),
            "deviceScaleFactor": 1, "mobile": self.size == PHONE})
        time.sleep(0.15)  # frames fit themselves to their content
        self.driver.save_screenshot(str(self.shots / f"{name}.png"))
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": self.size[0], "height": self.size[1], "deviceScaleFactor": 1,
            "mobile": self.size == PHONE})

    def until(self, script, what, *args, seconds=60):
        """Wait until a script returns something true, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = self.js(script, *args)
            if value:
                return value
            time.sleep(0.03)
        raise AssertionError(f"not within {seconds} s: {what}")

    def check_fits(self, what):
        """Nothing may be wider than the screen."""
        wide = self.js("""
            const limit = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= limit) return null;
            return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll') &&
                e.getBoundingClientRect().right > limit + 1).map((e) => e.tagName + '#' + e.id +
                '.' + e.className).slice(0, 5).join(', ') || 'the document';""")
        assert not wide, f"{what} is wider than {self.size[0]} px: {wide}"

    def check_axe(self, what):
        found = self.driver.execute_async_script(AXE + """
            const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then((r) => done(r.violations.map((v) =>
                v.id + ': ' + v.help + ': ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' +
                (n.any[0]?.message ?? '')).join(' | '))), (e) => done([String(e)]));""")
        assert not found, f"{what}: " + "\n  ".join(found)

    def console(self):
        """Complaints of the console since the last call: errors of scripts, refusals of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")]

    def requested(self):
        """Every address asked for so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return self.requests


def run(tests, browser):
    """Run the functions of a module whose names begin with test_, in their order; the exit status."""
    passed = failed = 0
    for name, test in tests.items():
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
        except Exception:  # a failure of one check must not hide the others
            failed += 1
            print(f"FAIL {name}")
            traceback.print_exc(file=sys.stdout)
            browser.driver.save_screenshot(str(browser.shots / f"FAIL_{name}.png"))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
