#!/usr/bin/env bash
# Makes a virtual environment with a Python that the packages support, and puts uv into it.
#   make_venv.sh DIRECTORY    PYTHON=... names the interpreter; without it, the first of these that fits is taken:
#                             the environment's own, those on the PATH, pyenv's, one that uv finds or fetches
set -euo pipefail
venv=$1
supported="3.11 3.12"
uv_version=0.13.9

# the minor version of a working 64-bit CPython, nothing for anything else (a pyenv shim of a version that is not
# chosen is there and does not run)
version_of() {
  "$1" -c 'import struct, sys
if sys.implementation.name == "cpython" and struct.calcsize("P") == 8:
    print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}
fits() { [[ " $supported " == *" $(version_of "$1") "* ]]; }
# Debian's and Ubuntu's python3 can do neither without the package python3-venv
makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
fail() { printf '%s\n' "$@" >&2; exit 1; }

found=
if [ -n "${PYTHON:-}" ]; then
  fits "$PYTHON" || fail "PYTHON=$PYTHON is no working Python ${supported/ / or }" \
    "leave PYTHON out and one is looked for, or name another: make install PYTHON=python3.12"
  found=$PYTHON
  if [ "$(version_of "$venv/bin/python")" != "$(version_of "$found")" ]; then rm -rf "$venv"; fi
fi
if fits "$venv/bin/python" && [ -x "$venv/bin/uv" ]; then exit 0; fi

if [ -z "$found" ]; then
  for candidate in python3.11 python3.12 python3 python \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin/python; do
    if fits "$candidate"; then found=$candidate; break; fi
  done
fi
rm -rf "$venv"
if [ -n "$found" ] && makes_venvs "$found"; then
  echo "== making $venv with $found (one to three minutes)"
  "$found" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
  exit 0
fi

# uv makes environments without Python's own tools, and fetches an interpreter where there is none
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  for candidate in python3 python python3.14 python3.13 python3.10 python3.9; do
    if makes_venvs "$candidate"; then
      echo "== fetching uv with $candidate"
      "$candidate" -m venv "$venv/fetcher"
      "$venv/fetcher/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
      uv=$(mktemp -d)/uv
      cp "$venv/fetcher/bin/uv" "$uv"
      break
    fi
  done
fi
wanted=${found:-">=3.11,<3.13"}
[ -n "$uv" ] || fail "no way to make a virtual environment: needs Python ${supported/ / or } that can make one, or uv" \
  "on Debian and Ubuntu: apt-get install python3-venv (whatever the version); elsewhere: install uv, then run make again"
echo "== making $venv with uv and Python $wanted (one to three minutes, fetched if it is not on this machine)"
"$uv" venv --quiet --clear --python "$wanted" "$venv" || fail "uv found no Python $wanted and could not fetch one" \
  "install Python ${supported/ / or }, or name one: make install PYTHON=/path/to/python3.12"
"$uv" pip install --quiet --python "$venv/bin/python" "uv==$uv_version"
