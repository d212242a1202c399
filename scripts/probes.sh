#!/bin/bash
# Builds the programs of internal/probe or internal/replay from their C sources,
# for each processor and kind of C library, in the root folder "cross": an old
# glibc, so that they run on 2.17 and later, and compilers that do not change, so
# that the same source gives the same bytes.
#
#   scripts/probes.sh probe|replay [FOLDER]        default: internal/NAME/bin
#
# Needs root, and the root folder (scripts/roots.sh cross).
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
name=${1:?which program: probe or replay}
out=$(realpath -m "${2:-internal/$name/bin}")
root=${FORKPROOF_TEST_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/forkproof/roots}/cross
if [ ! -e "$root/.forkproof-root" ]; then
	echo "probes.sh: no root folder $root: run scripts/roots.sh cross" >&2
	exit 1
fi
work=$(mktemp -d "$root/tmp/probes.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
cp -r "internal/$name/src" "$work/src"

cat >"$work/build" <<'END'
set -eu
# $1 is the kind of libc, $2 the processor as Go calls it, $3 as GNU does, $4 the
# name of the program.
cd "$(dirname "$0")/src"
compiler=gcc
[ "$3" = x86_64 ] || compiler=$3-linux-gnu-gcc
specs=
if [ "$1" = musl ]; then
	sed "s/x86_64/$3/g" /usr/lib/x86_64-linux-musl/musl-gcc.specs >"../$1-$2.specs"
	specs="-specs ../$1-$2.specs"
	# gcc's helpers for these ask glibc what the processor can do.
	[ "$2" != arm64 ] || specs="$specs -mno-outline-atomics"
fi
objects=../$1-$2
mkdir "$objects"
flags="$specs -std=gnu11 -O1 -D_GNU_SOURCE -fPIE -pthread -Wall -Wextra -Werror -ffile-prefix-map=$PWD=."
link="-Wl,--build-id=none -Wl,--hash-style=both -Wl,-z,now"
# replay's library calls functions of replay.
[ "$4" != replay ] || link="$link -rdynamic"
$compiler $specs -O1 -fPIC -shared -s ${link% -rdynamic} -o "$objects/library.so" library.c -pthread
find . -name '*.c' ! -name library.c | sort >"$objects/sources"
sed 's,^\./,,' "$objects/sources" | while read -r c; do
	printf '%s %s\n' "$c" "$objects/$(echo "$c" | tr / -).o"
done >"$objects/list"
xargs -P 2 -L 1 sh -c "exec $compiler $flags -I . -Wa,-I,$objects -c \"\$0\" -o \"\$1\"" <"$objects/list"
$compiler $specs -pie $link -o "../$4-$1-$2" $(cut -d' ' -f2 "$objects/list") -pthread -ldl -lrt
END

for kind in "glibc amd64 x86_64" "glibc arm64 aarch64" "musl amd64 x86_64" "musl arm64 aarch64"; do
	# shellcheck disable=SC2086 # three words
	chroot "$root" /bin/sh "/tmp/$(basename "$work")/build" $kind "$name"
done
mkdir -p "$out"
for f in "$work/$name"-*; do
	install -m 644 "$f" "$out/$(basename "$f")"
done
