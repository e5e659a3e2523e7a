package transfer

import (
	"context"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"ggen.dev/marketplace/shared"
)

// namedPeers bounds the peers that an error names, so that it stays readable.
const namedPeers = 8

// verdict says why a download failed, from what every peer that was tried did.
// From the most to the least specific:
//
//   - nobody holds it or can be reached: UNAVAILABLE;
//   - of those who hold it all sent wrong content or broke the protocol: INTEGRITY;
//   - of those who hold it all went silent: TIMEOUT;
//   - otherwise: PEERS_FAILED.
func verdict(digest shared.Digest, failures []*failure) error {
	count := map[Kind]int{}
	var causes []string
	for _, f := range failures {
		count[f.kind]++
		if len(causes) < namedPeers {
			causes = append(causes, shortID(f.peer)+": "+f.cause.Error())
		}
	}
	if more := len(failures) - len(causes); more > 0 {
		causes = append(causes, fmt.Sprintf("and %d more", more))
	}
	holders := len(failures) - count[Absent] - count[Unreachable]
	var err *shared.Error
	switch {
	case len(failures) == 0:
		return shared.NewError(shared.ReasonUnavailable, "fetch %s: no peer that is online is known to hold it", digest).
			WithHint("try again when a peer that has it is online")
	case holders == 0:
		err = shared.NewError(shared.ReasonUnavailable, "fetch %s: none of %d peers holds it or can be reached", digest, len(failures)).
			WithHint("try again when a peer that has it is online")
	case count[WrongContent]+count[Malformed] == holders:
		err = shared.NewError(shared.ReasonIntegrity, "fetch %s: %s sent content that does not match", digest, plural(holders, "the only peer that holds it", "all %d peers that hold it")).
			WithHint("nothing of it was kept; try again when other peers are online")
	case count[Stalled] == holders:
		err = shared.NewError(shared.ReasonTimeout, "fetch %s: %s stopped answering", digest, plural(holders, "the only peer that holds it", "all %d peers that hold it")).
			WithHint("try again; what was fetched is kept")
	default:
		err = shared.NewError(shared.ReasonPeersFailed, "fetch %s: %s failed", digest, plural(holders, "the only peer that holds it", "all %d peers that hold it")).
			WithHint("try again; what was fetched is kept")
	}
	return err.With("peers", strings.Join(causes, "; "))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}

// shortID is the end of a peer ID: all Ed25519 IDs begin alike.
func shortID(p peer.ID) string {
	s := p.String()
	return "…" + s[max(0, len(s)-8):]
}

// ended is the error of a call whose context is over.
func ended(ctx context.Context, digest shared.Digest) error {
	return shared.AsError(fmt.Errorf("fetch %s: %w", digest, ctx.Err()))
}
