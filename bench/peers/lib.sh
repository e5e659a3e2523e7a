# What the scripts share: each measures one tool at the same work and prints lines of the
# Go benchmark format. Sourced, not run.
set -euo pipefail

ROUNDS=${ROUNDS:-20}
WORK=$(mktemp -d)
trap 'cleanup; rm -rf "$WORK"' EXIT
cleanup() { :; } # a script that starts processes ends them here

# need ends the script, with the reason, if a command is missing.
need() {
	command -v "$1" >/dev/null || { echo "# $(basename "$0" .sh): skipped: there is no $1 on this machine"; exit 0; }
}

# package NAME writes a folder of ten files and about 30 KB to $WORK/NAME.
package() {
	mkdir -p "$WORK/$1"
	printf '[package]\nname = "%s"\nversion = "1.0.0"\ndescription = "a package to measure with"\n' "$1" >"$WORK/$1/package.toml"
	for i in 1 2 3 4 5 6 7 8 9; do
		yes "$1 template $i" | head -n 150 >"$WORK/$1/$i.tmpl"
	done
}

# measure WHAT COMMAND… runs a command once and prints how long it took.
measure() {
	local what=$1 began ended
	shift
	began=$(date +%s%N)
	"$@" >/dev/null 2>"$WORK/stderr" || { cat "$WORK/stderr" >&2; exit 1; }
	ended=$(date +%s%N)
	echo "BenchmarkPeers/$(basename "$0" .sh)/$what 1 $((ended - began)) ns/op"
}
