package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/shared"
)

// Secret is the pre-shared key of a private network. Whoever lacks it cannot read or
// send a byte of any protocol: every TCP connection is encrypted with it from its first
// byte on (XSalsa20 below TLS, see github.com/libp2p/specs/tree/master/pnet). It says
// who may join, and nothing about who is who. No way of printing it shows it.
type Secret struct{ key *[32]byte }

// String hides the key.
func (Secret) String() string { return "(secret)" }

// GoString hides the key.
func (s Secret) GoString() string { return s.String() }

const (
	secretHeader = "/key/swarm/psk/1.0.0/\n/base16/\n" //nolint:gosec // what a key begins with

	// maxSecret bounds the file of a key in bytes: header and 64 digits, and some room.
	maxSecret = 1 << 10
)

// ReadSecret reads a pre-shared key from a file as other libp2p programs have it
// (swarm.key): two lines that say what it is, and 64 hexadecimal digits. Errors:
// INVALID_ARGUMENT, also when others may read the file.
func ReadSecret(path string) (Secret, error) {
	refuse := func(format string, args ...any) (Secret, error) {
		return Secret{}, shared.NewError(shared.ReasonInvalidArgument, "the network key "+path+" "+format, args...).
			WithHint("make one for all peers of the network: (printf '/key/swarm/psk/1.0.0/\\n/base16/\\n'; openssl rand -hex 32) > FILE; chmod 600 FILE")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("does not exist")
	case err != nil:
		return refuse("cannot be read: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxSecret:
		return refuse("is not one")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return refuse("may be read by others (mode %04o)", info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return refuse("cannot be read: %w", err)
	}
	secret, err := parseSecret(data)
	if err != nil {
		return refuse("is not one: %w", err)
	}
	return secret, nil
}

func parseSecret(data []byte) (Secret, error) {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	digits, ok := strings.CutPrefix(string(data), secretHeader)
	if !ok {
		return Secret{}, errors.New("its first two lines say something else")
	}
	key, err := hex.DecodeString(strings.TrimSpace(digits))
	if err != nil || len(key) != 32 {
		return Secret{}, errors.New("64 hexadecimal digits do not follow")
	}
	return Secret{key: (*[32]byte)(key)}, nil
}

// options are those of a private network.
func (s Secret) options() []libp2p.Option {
	if s.key == nil {
		return nil
	}
	return []libp2p.Option{libp2p.PrivateNetwork(pnet.PSK(s.key[:]))}
}

// onlyTCP leaves out addresses that a private network cannot use: QUIC has no room for
// the key. Errors: INVALID_ARGUMENT when nothing is left.
func onlyTCP(addrs []ma.Multiaddr) ([]ma.Multiaddr, error) {
	left := slices.DeleteFunc(slices.Clone(addrs), func(addr ma.Multiaddr) bool {
		_, err := addr.ValueForProtocol(ma.P_TCP)
		return err != nil
	})
	if len(left) == 0 {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "a private network needs a TCP address to listen on").
			WithHint("a pre-shared key works over TCP alone: listen on /ip4/0.0.0.0/tcp/0")
	}
	return left, nil
}

// gate decides with whom there are connections: with peers on a list, if there is one,
// and with nobody whom the caller refuses. A peer proves its ID in the security
// handshake, which is all that others get to see.
type gate struct {
	allowed map[peer.ID]bool // nil: all
	refused func(peer.ID) bool
}

var _ connmgr.ConnectionGater = gate{}

func newGate(allowed []peer.ID, refused func(peer.ID) bool) gate {
	g := gate{refused: refused}
	if len(allowed) > 0 {
		g.allowed = map[peer.ID]bool{}
	}
	for _, p := range allowed {
		g.allowed[p] = true
	}
	return g
}

func (g gate) lets(p peer.ID) bool {
	return (g.allowed == nil || g.allowed[p]) && (g.refused == nil || !g.refused(p))
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g gate) InterceptPeerDial(p peer.ID) bool { return g.lets(p) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g gate) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return g.lets(p) }

// InterceptAccept implements connmgr.ConnectionGater: who it is, the handshake tells.
func (g gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater.
func (g gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.lets(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
