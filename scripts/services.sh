#!/usr/bin/env bash
# Finds the PostgreSQL and the Redis that tests start for themselves, or installs Debian's where that is possible.
# Without them those tests are skipped, with the reason.
set -euo pipefail
missing() {
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
  command -v redis-server >/dev/null || echo redis-server
}
packages=$(missing)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "== installing" $packages "for the tests of several hosts"
  # Debian would start both, as services of the machine
  mkdir -p /usr/sbin
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  # shellcheck disable=SC2086 - one word per package
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } \
    >/dev/null || true
fi
packages=$(missing)
[ -z "$packages" ] || echo "== not installed:" $packages "- the tests that need them are skipped" >&2
