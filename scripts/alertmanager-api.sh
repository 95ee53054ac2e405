#!/bin/sh
# Writes Alertmanager's own OpenAPI document to target/alertmanager-api.json, for tests that judge answers by it. It is taken
# from Debian's package of Alertmanager's source, where it stands as text in a Go file; installing the package would install
# a hundred others.
set -eu
cd "$(dirname "$0")/.."
file=target/alertmanager-api.json
[ -s "$file" ] && exit 0
package=golang-github-prometheus-alertmanager-dev
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
if ! (cd "$dir" && apt-get download -qq "$package" >log 2>&1 && dpkg-deb -x "$package"*.deb .); then
    cat "$dir/log" >&2
    echo "the package $package could not be fetched" >&2
    exit 1
fi
mkdir -p target
python3 - "$dir/usr/share/gocode/src/github.com/prometheus/alertmanager/api/v2/restapi/embedded_spec.go" >"$dir/api.json" <<'PYTHON'
import json, sys
source = open(sys.argv[1], encoding="utf-8").read()
start = "SwaggerJSON = json.RawMessage([]byte(`"
text = source[source.index(start) + len(start):]
json.dump(json.loads(text[:text.index("`))")]), sys.stdout)
PYTHON
mv "$dir/api.json" "$file"
