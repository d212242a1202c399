#!/bin/bash
# Makes the root folders that the tests enter: one Debian release each, so that
# one test run meets four C libraries and four interpreters.
#
#   scripts/roots.sh [--force] [RELEASE...]      default: all four, and cross
#
# "cross" is no release: it is bullseye with the compilers for the programs of
# internal/probe (scripts/probes.sh).
#
# Needs root and mmdebstrap (scripts/setup.sh installs it). The folders lie in
# $FORKPROOF_TEST_ROOTS, by default ${XDG_CACHE_HOME:-~/.cache}/forkproof/roots.
# A folder is built under another name and renamed when it is complete. Its
# stamp holds a hash of what it was made from: a changed package list rebuilds it.
set -euo pipefail

roots=${FORKPROOF_TEST_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/forkproof/roots}
releases=(bookworm bullseye trixie forky cross) # the longest first
recipe=1 # raise it when the way a root is made changes without its package list

# numpy computes with the OpenMP flavour of OpenBLAS: where the flavour with
# threads of its own is there too, prefer_openmp says so. musl is Debian's own:
# 1.2.2 to 1.2.5 and later, one per release.
common="gunicorn,python3,python3-numpy,libopenblas0-openmp,musl"
packages() {
	case $1 in
	# Victims in C are compiled with the oldest glibc, to run with all of them.
	bullseye) echo "$common,gcc,g++,libc6-dev,musl-tools" ;;
	cross) echo "gcc,libc6-dev,musl-tools,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,musl-dev:arm64" ;;
	bookworm) echo "$common,uwsgi-core,uwsgi-plugin-python3,celery,php-fpm,puma,unicorn,ruby-rack,postgresql,apache2,nginx-light,python3-gevent,python3-uvicorn,python3-httptools,libopenblas0-pthread,python3-grpcio,python3-psycopg2,redis-server,python3-redis" ;;
	*) echo "$common" ;;
	esac
}

# A test asks for the other flavour by LD_LIBRARY_PATH.
prefer_openmp='for link in "$1"/etc/alternatives/*blas.so.*-linux-gnu "$1"/etc/alternatives/*lapack.so.*-linux-gnu; do
	name=${link##*/}
	chroot "$1" update-alternatives --query "$name" | sed -n "s/^Alternative: //p" | grep openblas-openmp | while read -r flavour; do
		chroot "$1" update-alternatives --set "$name" "$flavour"
	done
done'

# The archive that this machine itself uses for Debian, else the public one.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk '$1 ~ /\/debian\/?$/ && !found { sub(/\/$/, "", $1); print $1; found = 1 } END { if (!found) print "http://deb.debian.org/debian" }'
}

stamp() { # what a root of release $1 would be made from, as a hash
	printf '%s\n' "$recipe" "$1" "$(packages "$1")" | sha256sum | cut -d' ' -f1
}

made() { # whether the root of release $1 is there, as it would be made now
	[ "$(cat "$roots/$1/.forkproof-root" 2>/dev/null)" = "$(stamp "$1")" ]
}

build() {
	local release=$1 suite=$1 architectures tmp log started=$SECONDS
	architectures=$(dpkg --print-architecture)
	if [ "$release" = cross ]; then
		suite=bullseye
		architectures=amd64,arm64
	fi
	tmp=$(mktemp -d "$roots/.$release.XXXXXX")
	log=$roots/$release.log
	# Testing's Release file may be past its date on a mirror that stands still.
	# Manual pages and translations are left out: a third of the time and space.
	if ! mmdebstrap --quiet --mode=root --variant=minbase \
		--architectures="$architectures" \
		--include="$(packages "$release")" \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt='force-unsafe-io' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--customize-hook="$prefer_openmp" \
		--customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
		"$suite" "$tmp" "$(mirror)" >"$log" 2>&1; then
		echo "roots.sh: $release: mmdebstrap failed; the end of $log:" >&2
		tail -n 20 "$log" >&2
		rm -rf --one-file-system "$tmp"
		return 1
	fi
	chmod 755 "$tmp"
	stamp "$release" >"$tmp/.forkproof-root"
	if [ -e "$roots/$release" ]; then
		rm -rf --one-file-system "${roots:?}/$release"
	fi
	mv -T "$tmp" "$roots/$release"
	echo "roots.sh: $release made in $((SECONDS - started)) s, $(du -sm "$roots/$release" | cut -f1) MB"
}

force=
if [ "${1:-}" = --force ]; then
	force=1
	shift
fi
if [ $# -gt 0 ]; then releases=("$@"); fi

mkdir -p "$roots"
wanted=()
for release in "${releases[@]}"; do
	if [ -n "$force" ] || ! made "$release"; then wanted+=("$release"); fi
done
if [ ${#wanted[@]} -eq 0 ]; then exit 0; fi
if [ "$(id -u)" -ne 0 ]; then
	echo "roots.sh: making root folders needs root: run it with sudo, or as root" >&2
	exit 1
fi

# Two callers at once must not build the same folder twice.
exec 9>"$roots/.lock"
flock 9
# Left behind by a build that was killed.
find "$roots" -maxdepth 1 -name '.*.??????' -type d -exec rm -rf --one-file-system {} +

# Two at a time: most of the time goes into unpacking, on one processor each.
failed=0
running=0
for release in "${wanted[@]}"; do
	if [ -z "$force" ] && made "$release"; then continue; fi # by the one we waited for
	if [ "$running" -ge 2 ]; then
		wait -n || failed=1
		running=$((running - 1))
	fi
	build "$release" 9>&- &
	running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=1
	running=$((running - 1))
done
exit "$failed"
