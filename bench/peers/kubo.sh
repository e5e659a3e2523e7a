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
for home in author user; do
	port=$([[ $home == author ]] && echo 14001 || echo 14002)
	as "$home" init --profile=test >/dev/null 2>&1
	as "$home" bootstrap rm --all >/dev/null
	as "$home" config --json Addresses.Swarm "[\"/ip4/127.0.0.1/tcp/$port\",\"/ip4/127.0.0.1/udp/$port/quic-v1\"]"
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
author=$(as author id -f '<id>')
as user swarm connect "/ip4/127.0.0.1/udp/14001/quic-v1/p2p/$author" >/dev/null
for ((i = 0; i < ROUNDS; i++)); do
	name=many-$i
	many "$name"
	cid=$(as author add -Q -r "$WORK/$name")
	measure install-302-files as user get -o "$WORK/got-$i" "$cid"
done
# QUIC is what kubo chooses, TCP what is faster over loopback. Blocks of 256 KiB are the default, of 1 MiB the largest.
for over in quic:udp/14001/quic-v1:262144 tcp:tcp/14001:262144 tcp-1MiB-blocks:tcp/14001:1048576; do
	IFS=: read -r name address chunk <<<"$over"
	as user swarm disconnect "/p2p/$author" >/dev/null
	until as user swarm connect "/ip4/127.0.0.1/$address/p2p/$author" >/dev/null 2>&1 && as user swarm peers | grep -q "/$address/"; do
		as user swarm disconnect "/p2p/$author" >/dev/null 2>&1 || true
		sleep 0.1
	done
	for ((i = 0; i < FEW; i++)); do
		folder=large-$name-$i
		large "$folder"
		cid=$(as author add -Q --chunker="size-$chunk" "$WORK/$folder/data.bin")
		TOOL=kubo-$name measure fetch-64MiB as user pin add "$cid"
		rm -r "${WORK:?}/$folder"
	done
done
