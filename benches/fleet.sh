#!/bin/sh
# A province's fleet over a real broker: memory of 100,000 devices, then 20,000 messages a second beside a slow scraper.
# See fleet.py.
set -eu
cd "$(dirname "$0")/.."
exec /usr/bin/python3 benches/fleet.py "$@"
