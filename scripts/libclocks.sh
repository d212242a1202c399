#!/bin/bash
# Makes internal/libc/builds.txt, the table of where the locks lie in the builds
# of glibc that Debian has shipped, from the packages of debug files. It
# downloads some 200 MB and is needed only when a build is to be added: the
# result is part of the repository.
#
#   scripts/libclocks.sh [RELEASE...]      default: all four
set -euo pipefail
cd "$(dirname "$0")/.."

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
	awk '/\/debian\/?$/ && !found { sub(/\/$/, ""); print; found = 1 } END { if (!found) print "http://deb.debian.org/debian" }')
releases=("$@")
if [ $# -eq 0 ]; then releases=(bullseye bookworm trixie forky); fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
builds=()
for arch in amd64 arm64; do
	for release in "${releases[@]}"; do
		dir=$work/$release-$arch
		mkdir -p "$dir"/{lists/partial,archives/partial,debs}
		{
			echo "deb [trusted=yes] $mirror $release main"
			# Testing has no updates of its own.
			if [ "$release" != forky ]; then echo "deb [trusted=yes] $mirror-security $release-security main"; fi
		} >"$dir/sources.list"
		apt=(-qq -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State="$dir" -o Dir::Cache="$dir"
			-o Dir::State::status=/dev/null -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root
			-o Acquire::Check-Valid-Until=false -o Acquire::Languages=none)
		apt-get "${apt[@]}" update
		for version in $(apt-cache "${apt[@]}" madison libc6-dbg | awk '{ print $3 }' | sort -u); do
			# A list may name what the archive has dropped already.
			if ! (cd "$dir/debs" && apt-get "${apt[@]}" download "libc6-dbg=$version"); then
				echo "libclocks.sh: libc6-dbg $version ($arch) is not there: left out" >&2
				continue
			fi
			dpkg-deb -x "$dir"/debs/libc6-dbg_*_"$arch".deb "$dir/$version"
			rm "$dir"/debs/*.deb
			builds+=("Debian:$version=$dir/$version")
		done
	done
done
go run ./tool/genlocks "${builds[@]}" >"$work/builds.txt"
mv "$work/builds.txt" internal/libc/builds.txt
chmod 644 internal/libc/builds.txt
