#!/usr/bin/env bash
# Finds the browser that tests open pages in, or installs Debian's Chromium where that is possible.
# Without one those tests do not run, and the last lines of `make test` say so; in CI they fail.
set -euo pipefail
works() {
  for name in chromium chromium-browser google-chrome; do
    # Ubuntu's chromium-browser is only a hint to install a snap: it must run
    if "$name" --version >/dev/null 2>&1; then return 0; fi
  done
  return 1
}
if works; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "== installing Chromium, for the tests that open pages in a browser"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
    >/dev/null || true
fi
works || echo "== no browser: install Chromium or Chrome to run the tests that open pages in one" >&2
