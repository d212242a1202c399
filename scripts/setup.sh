#!/bin/bash
# Installs what the tests need on a Debian machine that has Go and git. Run as
# root or by somebody who may use sudo; quick when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
need=()
have() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
for p in mmdebstrap gcc g++ libc6-dev spin binutils gdb musl-tools xz-utils util-linux python3 python3-sqlalchemy gunicorn procps rpm db5.3-util libabsl-dev default-jre-headless libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 qemu-user; do
	have "$p" || need+=("$p")
done
command -v java >/dev/null && need=("${need[@]/default-jre-headless/}")
command -v node >/dev/null || need+=(nodejs)
packages=()
for p in "${need[@]}"; do [ -z "$p" ] || packages+=("$p"); done
if [ ${#packages[@]} -gt 0 ]; then
	echo "setup: installing ${packages[*]}"
	$sudo apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "${packages[@]}" >/dev/null
fi
gobin=$(go env GOPATH)/bin
if [ ! -x "$gobin/staticcheck" ]; then
	echo "setup: building staticcheck"
	go install honnef.co/go/tools/cmd/staticcheck@v0.7.0
fi
bash scripts/roots.sh
