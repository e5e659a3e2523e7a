#!/usr/bin/env bash
# Two peers behind NATs, and five that everybody can dial, each in a network namespace of
# its own with the real engine: A publishes, B installs.
#
#   A 10.1.0.2 ── NAT 45.0.0.101 ──┬── 45.0.0.1 … 45.0.0.5, which also are relays
#   B 10.2.0.2 ── NAT 45.0.0.102 ──┘
#
# usage: nat.sh BIN cone|symmetric|noudp      BIN holds ggen and the engine
#
# cone: Linux' masquerade keeps the port of a socket towards everybody, so a hole can be
# punched. symmetric: another random port towards everybody, so it cannot. noudp: as cone,
# and no UDP gets out of A's network.
set -euo pipefail

bin=$(cd "${1:?BIN}" && pwd) kind=${2:?cone, symmetric or noudp}

if [[ ${NAT_INSIDE:-} != yes ]]; then
	for tool in unshare ip nft sysctl jq; do
		command -v "$tool" >/dev/null || { echo "skipped: there is no $tool here (Debian: util-linux, iproute2, nftables, procps, jq)"; exit 0; }
	done
	unshare -Urnmpf --mount-proc true 2>/dev/null || { echo "skipped: this user may not make namespaces"; exit 0; }
	NAT_INSIDE=yes exec unshare -Urnmpf --mount-proc "$0" "$@"
fi

mount -t tmpfs tmpfs /run
dir=$(mktemp -d /tmp/nat.XXXXXX)
trap 'status=$?; for h in "${hosts[@]:-}"; do [[ -n $h ]] && run "$h" p2p stop >/dev/null 2>&1; done; [[ $status == 0 ]] && rm -rf "$dir" || echo "homes are in $dir" >&2' EXIT

hosts=()
say() { printf '%6.1f s  %s\n' "$(jq -n "$(date +%s.%N) - $began")" "$*"; }
began=$(date +%s.%N)

# run HOST ARGS... runs ggen on a host.
run() {
	local host=$1
	shift
	ip netns exec "$host" env GGEN_HOME="$dir/$host" NO_COLOR=1 GGEN_P2P_MDNS=false "$bin/ggen" marketplace "$@"
}

# wire NAMESPACE BRIDGE-NAMESPACE ADDRESS connects a namespace to the bridge of another one.
wire() {
	local n=$1 at=$2 address=$3 name=$4
	ip -n "$n" link add "$name" type veth peer name "v$n" netns "$at"
	ip -n "$at" link set "v$n" master br0 up
	ip -n "$n" address add "$address" dev "$name"
	ip -n "$n" link set "$name" up
}

space() {
	ip netns add "$1"
	ip -n "$1" link set lo up
}

space net
ip -n net link add br0 type bridge
ip -n net link set br0 up

publics=()
for i in 1 2 3 4 5; do
	space "p$i"
	wire "p$i" net "45.0.0.$i/24" wan
	publics+=("p$i")
done

# nat LETTER NUMBER makes host LETTER behind its router.
nat() {
	local host=$1 number=$2 how=masquerade
	[[ $kind == symmetric ]] && how="masquerade random,fully-random"
	space "r$host"
	space "$host"
	wire "r$host" net "45.0.0.10$number/24" wan
	ip -n "r$host" link add lan type veth peer name wan netns "$host"
	ip -n "r$host" address add "10.$number.0.1/24" dev lan
	ip -n "r$host" link set lan up
	ip -n "$host" address add "10.$number.0.2/24" dev wan
	ip -n "$host" link set wan up
	ip -n "$host" route add default via "10.$number.0.1"
	ip netns exec "r$host" sysctl -qw net.ipv4.ip_forward=1
	local block=""
	[[ $kind == noudp && $host == A ]] && block='iifname lan meta l4proto udp drop'
	ip netns exec "r$host" nft -f - <<-RULES
		table ip nat {
			chain out { type nat hook postrouting priority 100; oifname wan $how; }
		}
		table ip filter {
			chain through { type filter hook forward priority 0; policy drop;
				$block
				ct state established,related accept
				iifname lan oifname wan accept
			}
			chain inward { type filter hook input priority 0; policy accept;
				iifname wan ct state new drop
			}
		}
	RULES
}
nat A 1
nat B 2

# until WHAT COMMAND... waits for two minutes.
until_true() {
	local what=$1 end=$((SECONDS + 120))
	shift
	until "$@"; do
		((SECONDS < end)) || { echo "waited in vain until $what" >&2; exit 1; }
		sleep 0.5
	done
	say "$what"
}
address_of() { run "$1" p2p status --json | jq -r '.listen_addresses[]' | grep "/$2/" | grep -v p2p-circuit | head -1; }
is_private() { [[ $(run "$1" p2p status --json | jq -r .reachability) == private ]]; }
is_relayed() { run "$1" p2p status --json | jq -r '.listen_addresses[]' | grep -q p2p-circuit; }
knows() { run B search from-behind --json | jq -e '.total > 0' >/dev/null; }

say "NATs: $kind"
bootstrap=()
for p in "${publics[@]}"; do
	hosts+=("$p")
	run "$p" p2p start --dht-server --listen "/ip4/45.0.0.${p#p}/tcp/4001" --listen "/ip4/45.0.0.${p#p}/udp/4001/quic-v1" "${bootstrap[@]}" >/dev/null 2>&1
	for transport in udp tcp; do bootstrap+=(--bootstrap "$(address_of "$p" $transport)"); done
done
for h in A B; do
	hosts+=("$h")
	run "$h" p2p start --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/udp/4001/quic-v1 "${bootstrap[@]}" >/dev/null 2>&1
done
say "A is connected to $(run A p2p peer-list --json | jq '[.peers[] | select(.connected)] | length') peers: $(run A p2p peer-list --json | jq -rc '[.peers[].connections[] | split("/")[3]] | group_by(.) | map("\(length) by \(.[0])") | join(", ")')"
for h in A B; do
	until_true "$h has found that nobody can dial it" is_private $h
	until_true "$h can be reached through a relay" is_relayed $h
done

mkdir -p "$dir/from-behind" "$dir/project"
head -c 3000000 /dev/urandom >"$dir/from-behind/data.bin"
printf '[package]\nname = "from-behind"\nversion = "1.0.0"\ndescription = "comes from behind a NAT"\n' >"$dir/from-behind/package.toml"
run A publish "$dir/from-behind" --quiet >/dev/null
until_true "B knows the package" knows
# The publisher may still be telling the DHT that it has the package.
installs() { before=$(date +%s.%N); run B install from-behind --trust --project "$dir/project" --json >"$dir/installed" 2>/dev/null; }
until_true "B installs the package" installs
say "B has installed 3 MB from $(jq -r '.packages[0].peers' "$dir/installed") peer in $(jq -n "$(date +%s.%N) - $before | . * 100 | round / 100") s"

peer_a=$(run A p2p status --json | jq -r .peer_id)
way() { run B p2p peer-info "$peer_a" --json 2>/dev/null | jq -r '.connections | join(" ")'; }
if [[ $kind == cone ]]; then
	direct() { [[ $(way) == */ip4/45.0.0.101/* ]]; }
	until_true "B is connected directly to A, at its NAT" direct
	say "B reaches A at $(way)"
else
	end=$((SECONDS + 20))
	while ((SECONDS < end)); do
		[[ $(way) != */ip4/45.0.0.101/* ]] || { echo "a hole was punched where none can be: $(way)" >&2; exit 1; }
		sleep 1
	done
	say "B reaches A through a relay alone: $(way | sed 's/.*p2p-circuit/p2p-circuit/')"
fi
