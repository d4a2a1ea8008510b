# shellcheck shell=bash
# Sourced by the other scripts: finds tools, and installs what is lacking.

PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

# need COMMAND=PACKAGE...: installs the Debian packages of the commands that are not there.
need() {
	local pair packages=() sudo=()
	for pair; do
		command -v "${pair%%=*}" > /dev/null || packages+=("${pair#*=}")
	done
	[ ${#packages[@]} -gt 0 ] || return 0
	if ! command -v apt-get > /dev/null; then
		echo "${0##*/}: please install: ${packages[*]}" >&2
		exit 1
	fi
	[ "$(id -u)" = 0 ] || sudo=(sudo)
	echo "installing ${packages[*]}" >&2
	"${sudo[@]}" apt-get update -qq >&2
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

# show COMMAND...: prints a command as one would type it, then runs it.
show() {
	printf '\n$'
	printf ' %q' "$@"
	printf '\n'
	"$@"
}
