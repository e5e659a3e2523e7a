# kubo: two daemons that know each other and nobody else, over loopback; Bitswap fetches what the one has added.
# To have it, in an empty folder (its go.mod has excludes, with which go install refuses): go mod init x &&
# go get github.com/ipfs/kubo/cmd/ipfs@v0.43.1 && go build github.com/ipfs/kubo/cmd/ipfs. Its go.mod names a fork of
# go-libp2p for a newer QUIC; where that cannot be had: go mod edit -replace
# github.com/quic-go/quic-go=github.com/quic-go/quic-go@v0.60.0 (webtransport-go: v0.11.1), which are go-libp2p's own.
. ./lib.sh
need ipfs
echo "# kubo: $(ipfs version)"
daemons=()
cleanup() {
	for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait
}
as() {
	local home=$1
	shift
	IPFS_PATH=$WORK/$home ipfs "$@"
}
# start ADDRESS begins anew with two daemons that speak one transport.
start() {
	local address=$1 home port
	cleanup
	daemons=()
	for home in author user; do
		port=$([[ $home == author ]] && echo 14001 || echo 14002)
		rm -rf "${WORK:?}/$home"
		as "$home" init --profile=test >/dev/null 2>&1
		as "$home" bootstrap rm --all >/dev/null
		as "$home" config --json Addresses.Swarm "[\"/ip4/127.0.0.1/${address/PORT/$port}\"]"
		as "$home" config Routing.Type dht
		as "$home" config --json Import.UnixFSRawLeaves true
		(IPFS_PATH=$WORK/$home exec ipfs daemon) >"$WORK/$home.log" 2>&1 &
		daemons+=($!)
		# Any command before that would take the daemon's lock.
		until [[ -s $WORK/$home/api ]]; do
			kill -0 "${daemons[-1]}" || { cat "$WORK/$home.log" >&2; exit 1; }
			sleep 0.1
		done
	done
	as user swarm connect "/ip4/127.0.0.1/${address/PORT/14001}/p2p/$(as author id -f '<id>')" >/dev/null
}
# fetch WHAT BLOCK fetches 64 MiB in blocks of so many bytes: 256 KiB are the default, 1 MiB the largest.
fetch() {
	local what=$1 i name cid
	for ((i = 0; i < FEW; i++)); do
		name=large-$what-$i
		large "$name"
		cid=$(as author add -Q --chunker="size-$2" "$WORK/$name/data.bin")
		TOOL=kubo-$what measure fetch-64MiB as user pin add "$cid"
		rm -r "${WORK:?}/$name"
	done
}
start udp/PORT/quic-v1 # what kubo chooses
for ((i = 0; i < ROUNDS; i++)); do
	name=many-$i
	many "$name"
	cid=$(as author add -Q -r "$WORK/$name")
	measure install-302-files as user get -o "$WORK/got-$i" "$cid"
done
fetch quic 262144
start tcp/PORT # what is faster over loopback
fetch tcp 262144
fetch tcp-1MiB-blocks 1048576
