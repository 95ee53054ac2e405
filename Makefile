# The targets a developer needs. `make test` is what CI runs; the slow ones stand apart.

PACKAGES := mosquitto mosquitto-clients prometheus prometheus-alertmanager prometheus-blackbox-exporter nginx-light postgresql mariadb-server python3-aiosmtpd mblaze openssl python3-jsonschema victoria-metrics
BENCH_PACKAGES := prometheus-mqtt-exporter python3-aiosmtpd
CARGO := cargo

.PHONY: test lint unit rules packages tools bench fuzz soak

test: packages lint unit rules ## everything CI checks

# Installs quietly what the tests start themselves; no service needs to run.
packages:
	@sh scripts/install-packages.sh $(PACKAGES)
	@sh scripts/alertmanager-api.sh

tools:
	@sh scripts/install-tools.sh

lint: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo-deny check licenses bans sources
	@echo "advisories not run: there is no advisory database here"

unit:
	$(CARGO) test --locked --no-fail-fast

rules: packages
	promtool check rules alerts/*.yml
	promtool test rules alerts/tests/*.yml

bench: packages
	@sh scripts/install-packages.sh $(BENCH_PACKAGES)
	@for bench in benches/*.sh; do echo "== $$bench"; bash "$$bench" || exit 1; done

fuzz:
	@bash scripts/fuzz.sh

# An hour of 2,000 services after the warm-up; fails unless memory is flat.
soak: packages
	@sh scripts/install-packages.sh $(BENCH_PACKAGES)
	@bash benches/services.sh --soak
