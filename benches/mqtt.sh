#!/bin/sh
# MQTT ingest beside a bare counter and Debian's prometheus-mqtt-exporter. ROUNDS=5 in the environment; see mqtt.py.
set -eu
cd "$(dirname "$0")/.."
exec /usr/bin/python3 benches/mqtt.py "$@"
