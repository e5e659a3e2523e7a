# oras: packages pushed as artifacts to an OCI registry on this machine (distribution), and pulled from it.
# To have them: go install oras.land/oras/cmd/oras@v1.3.0 github.com/distribution/distribution/v3/cmd/registry@v3.0.0
. ./lib.sh
need oras
need registry
need curl
echo "# oras: $(oras version | head -n 1 | tr -s ' '), registry $(registry --version | tr -s ' ')"
daemons=()
cleanup() { for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done; }
cat >"$WORK/registry.yaml" <<-CONFIG
	version: 0.1
	log: {level: error}
	storage: {filesystem: {rootdirectory: $WORK/storage}}
	http: {addr: 127.0.0.1:15000}
CONFIG
registry serve "$WORK/registry.yaml" >"$WORK/registry.log" 2>&1 &
daemons+=($!)
until curl -fs http://127.0.0.1:15000/v2/ >/dev/null; do
	kill -0 "${daemons[-1]}" || { cat "$WORK/registry.log" >&2; exit 1; }
	sleep 0.1
done
round() {
	local kind=$1 name=$2 what=$3
	"$kind" "$name"
	(cd "$WORK" && measure "publish$what" oras push --plain-http "127.0.0.1:15000/$name:1.0.0" "$name/")
	measure "${4:-install}$what" oras pull --plain-http --output "$WORK/got-$name" "127.0.0.1:15000/$name:1.0.0"
}
for ((i = 0; i < ROUNDS; i++)); do
	round package "measured-$i" ""
	round many "many-$i" -302-files
done
for ((i = 0; i < FEW; i++)); do
	round large "large-$i" -64MiB fetch
	rm -r "$WORK/large-$i" "$WORK/got-large-$i"
done
