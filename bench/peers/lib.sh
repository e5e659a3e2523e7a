# What the scripts share: each measures one tool at the same work and prints lines of the
# Go benchmark format. Sourced, not run.
set -euo pipefail

ROUNDS=${ROUNDS:-20}
FEW=${FEW:-5} # rounds of 64 MiB
WORK=$(mktemp -d)
trap 'cleanup; rm -rf "$WORK"' EXIT
cleanup() { :; } # a script that starts processes ends them here

# need ends the script, with the reason, if a command is missing.
need() {
	command -v "$1" >/dev/null || { echo "# $(basename "$0" .sh): skipped: there is no $1 on this machine"; exit 0; }
}

# package NAME writes a folder of ten files and about 30 KB to $WORK/NAME.
package() {
	local i
	mkdir -p "$WORK/$1"
	printf '[package]\nname = "%s"\nversion = "1.0.0"\ndescription = "a package to measure with"\n' "$1" >"$WORK/$1/package.toml"
	for i in 1 2 3 4 5 6 7 8 9; do
		seq -f "$1 template $i, line %g" 150 >"$WORK/$1/$i.tmpl"
	done
}

# many NAME writes 302 files of 2.3 MB, like the largest packages of the registry.
many() {
	local i
	mkdir -p "$WORK/$1"
	printf '[package]\nname = "%s"\nversion = "1.0.0"\ndescription = "a package to measure with"\n' "$1" >"$WORK/$1/package.toml"
	for i in {1..301}; do
		mkdir -p "$WORK/$1/part-$((i / 20))"
		seq "$((i * 1000))" "$((i * 1000 + 1100))" >"$WORK/$1/part-$((i / 20))/$i.tmpl"
	done
}

# large NAME writes one file of 64 MiB that nothing compresses.
large() {
	mkdir -p "$WORK/$1"
	printf '[package]\nname = "%s"\nversion = "1.0.0"\ndescription = "a package to measure with"\n' "$1" >"$WORK/$1/package.toml"
	head -c 67108864 /dev/urandom >"$WORK/$1/data.bin"
}

# measure WHAT COMMAND… runs a command once and prints how long it took. TOOL is whose, if
# not the script's.
measure() {
	local what=$1 began ended
	shift
	began=$(date +%s%N)
	"$@" >/dev/null 2>"$WORK/stderr" || { cat "$WORK/stderr" >&2; exit 1; }
	ended=$(date +%s%N)
	echo "BenchmarkPeers/${TOOL:-$(basename "$0" .sh)}/$what 1 $((ended - began)) ns/op $(((ended - began) / 1000000)).$(printf %03d $(((ended - began) / 1000 % 1000))) whole-ms"
}
