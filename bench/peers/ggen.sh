# ggen: publish by one warm engine, search and install by another one, over loopback.
. ./lib.sh
cleanup() {
	for home in author user; do
		GGEN_HOME=$WORK/$home "$BIN/ggen" marketplace p2p stop >/dev/null 2>&1 || true
	done
}
export GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1 NO_COLOR=1
as() {
	local home=$1
	shift
	(cd "$WORK" && GGEN_HOME=$WORK/$home "$BIN/ggen" marketplace "$@")
}
touch "$WORK/ggen.toml"
as author p2p start >/dev/null 2>&1
address=$(as author p2p status --json | grep -o '/ip4/127[^"]*' | head -n 1)
as user p2p start --bootstrap "$address" >/dev/null 2>&1
for ((i = 0; i < ROUNDS; i++)); do
	name=measured-$i
	package "$name"
	measure publish as author publish "$name"
	until as user search "$name" --json 2>/dev/null | grep -q "\"$name\""; do :; done
	measure search as user search "$name"
	measure install as user install "$name" --trust --yes
done
for ((i = 0; i < ROUNDS; i++)); do
	name=many-$i
	many "$name"
	as author publish "$name" >/dev/null
	until as user search "$name" --json 2>/dev/null | grep -q "\"$name\""; do :; done
	measure install-302-files as user install "$name" --trust --yes
done
for ((i = 0; i < FEW; i++)); do
	name=large-$i
	large "$name"
	as author publish "$name" >/dev/null
	until as user search "$name" --json 2>/dev/null | grep -q "\"$name\""; do :; done
	measure fetch-64MiB as user cache pin "$name"
	rm -r "${WORK:?}/$name"
done
