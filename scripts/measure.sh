#!/bin/bash
# Measures the libcs of the root folders with `forkproof probe` and keeps what
# comes out in internal/probe/measured, which docs/measured.md is made of. Needs
# root; takes some minutes for each libc, so that rare windows are met.
#
#   scripts/measure.sh [FLAGS OF PROBE...]      default: --time 1s --forks 5000
set -euo pipefail
cd "$(dirname "$0")/.."
roots=${FORKPROOF_TEST_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/forkproof/roots}
flags=("$@")
[ $# -gt 0 ] || flags=(--time 1s --forks 5000)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$work/forkproof" ./cmd/forkproof

# Titles and claims are in the sources, times say nothing of the libc, and where
# the root folder was is nobody's business.
keep() {
	python3 -c '
import json, sys
r = json.load(sys.stdin)
for key in ("root", "milliseconds", "version"):
    r.pop(key, None)
for p in r["results"]:
    for key in ("title", "claim", "milliseconds"):
        p.pop(key, None)
head = {k: v for k, v in r.items() if k != "results"}
text = json.dumps(head)[:-1] + ", \"results\": [\n"
text += ",\n".join(json.dumps(p) for p in r["results"]) + "\n]}"
name = "-".join([r["libc"]["family"], r["libc"].get("package") or r["libc"].get("version"), r["arch"]])
open("internal/probe/measured/" + name.replace("/", "_") + ".json", "w").write(text + "\n")
print("measure.sh:", name)
'
}
for release in bullseye bookworm trixie forky; do
	for libc in "" /lib/ld-musl-x86_64.so.1; do
		nice "$work/forkproof" probe --root "$roots/$release" --libc "$libc" --format json "${flags[@]}" | keep
	done
done
