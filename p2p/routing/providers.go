package routing

import (
	"context"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"ggen.dev/marketplace/shared"
)

// MaxProviders bounds the providers of one lookup.
const MaxProviders = 256

// cidOf is the CID of a blob: version 1, raw, sha2-256. It is undefined for an
// invalid digest.
func cidOf(digest shared.Digest) (cid.Cid, error) {
	if _, err := shared.ParseDigest(string(digest)); err != nil {
		return cid.Undef, err
	}
	sum := digest.Sum()
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		return cid.Undef, fmt.Errorf("encode %s: %w", digest, err)
	}
	return cid.NewCidV1(cid.Raw, hash), nil
}

// Provide announces that this node has a blob to the 20 peers closest to it, and
// returns to how many of them the message was sent (they do not confirm). It
// takes at most 30 s.
//
// Errors: INVALID_ARGUMENT; NO_PEERS, TIMEOUT or PEERS_FAILED when it reached
// nobody; then it is tried again with everything else in Config.Keep.
func (r *Router) Provide(ctx context.Context, digest shared.Digest) (told int, err error) {
	told, err = r.provide(ctx, digest)
	return told, r.retryLater(err)
}

func (r *Router) provide(ctx context.Context, digest shared.Digest) (told int, err error) {
	key, err := cidOf(digest)
	if err != nil {
		return 0, named(err, "provide")
	}
	// Who asks this node itself must hear of it too. The store only fails when the
	// node is closing, and then the next step says so.
	_ = r.dht.ProviderStore().AddProvider(ctx, key.Hash(), peer.AddrInfo{ID: r.dht.PeerID()})
	self := peer.AddrInfo{ID: r.dht.PeerID(), Addrs: r.dht.FilteredAddrs()}
	told, err = r.storeAtClosest(ctx, string(key.Hash()), func(ctx context.Context, p Known) error {
		message := pb.NewMessage(pb.Message_ADD_PROVIDER, key.Hash(), 0)
		message.ProviderPeers = pb.RawPeerInfosToPBPeers([]peer.AddrInfo{self})
		return r.tell(ctx, p, message)
	})
	return told, named(err, "provide %s", digest)
}

// Providers finds peers that say they have a blob, each once, as they are found:
// leaving the loop ends the search. It yields at most most of them (0 means 20,
// at most [MaxProviders]), never this node, and only peers that are connected or
// have an address. It ends after 10 s, or when ctx does. An empty sequence means
// that nobody was found, or nobody could be asked.
//
// Nothing vouches for a provider: whoever wants the blob tries the next one when
// the first has nothing.
func (r *Router) Providers(ctx context.Context, digest shared.Digest, most int) iter.Seq[peer.AddrInfo] {
	if most <= 0 {
		most = 20
	}
	most = min(most, MaxProviders)
	return func(yield func(peer.AddrInfo) bool) {
		key, err := cidOf(digest)
		if err != nil {
			return
		}
		ctx, cancel := r.bounded(ctx, lookupTimeout)
		defer cancel()
		seen := map[peer.ID]bool{r.dht.PeerID(): true}
		give := func(info peer.AddrInfo) bool {
			if len(info.Addrs) == 0 {
				info.Addrs = r.directory.Addrs(info.ID)
			}
			info.Addrs = info.Addrs[:min(len(info.Addrs), maxPeerAddrs)]
			if seen[info.ID] || len(info.Addrs) == 0 && !r.connected(info.ID) {
				return true // it may come again, with addresses
			}
			seen[info.ID] = true
			return yield(info) && len(seen) <= most
		}
		stored, err := r.dht.ProviderStore().GetProviders(ctx, key.Hash())
		if err == nil { // it only fails when the node is closing
			for _, info := range stored {
				if !give(info) {
					return
				}
			}
		}
		if r.usable() != nil {
			return
		}
		for a := range r.newLookup(pb.Message_GET_PROVIDERS, key.Hash()).answers(ctx, func() bool { return len(seen) > 1 }) {
			named := a.message.GetProviderPeers()
			for _, info := range pb.PBPeersToPeerInfos(named[:min(len(named), MaxProviders)]) {
				if !give(*info) {
					return
				}
			}
		}
	}
}
