package node_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"ggen.dev/marketplace/p2p/node"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// newSecret writes the file of a fresh pre-shared key and reads it.
func newSecret(t *testing.T) node.Secret {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "network.key")
	if err := os.WriteFile(file, []byte("/key/swarm/psk/1.0.0/\n/base16/\n"+hex.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := node.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret); strings.Contains(text, hex.EncodeToString(key)[:8]) {
		t.Fatalf("it prints %s", text)
	}
	return secret
}

// tcpOf is the address of a node as net.Dial takes it.
func tcpOf(t *testing.T, n *node.Node) string {
	t.Helper()
	addr, err := ma.NewMultiaddr(n.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	ip, _ := addr.ValueForProtocol(ma.P_IP4)
	port, err := addr.ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(ip, port)
}

// TestAPrivateNetwork: who has the key is in, and nobody else learns anything.
func TestAPrivateNetwork(t *testing.T) {
	secret := newSecret(t)
	first := p2ptest.Open(t, onLoopback(t, node.Config{Secret: secret}))
	if text := strings.Join(first.Addresses(), " "); strings.Contains(text, "udp") {
		t.Errorf("it listens on %s", text)
	}
	t.Run("those who have the key find each other", func(t *testing.T) {
		second := p2ptest.Open(t, onLoopback(t, node.Config{Secret: secret, Bootstrap: first.Addresses()}))
		p2ptest.Eventually(t, "full routing tables", connected([]*node.Node{first, second}, 1))
	})
	for name, cfg := range map[string]node.Config{"without a key": {}, "with another key": {Secret: newSecret(t)}} {
		t.Run("a peer "+name+" is a stranger", func(t *testing.T) {
			stranger := p2ptest.Open(t, onLoopback(t, cfg))
			if outcome := stranger.Bootstrap(t.Context(), first.Addresses()[:1])[0]; outcome.Err == nil {
				t.Fatal("it got in")
			}
			if len(stranger.Host().Network().Peers()) != 0 {
				t.Error("it is connected")
			}
		})
	}
	// What follows a connection is the nonce of 24 bytes, and noise for whoever lacks
	// the key: not one protocol has its name there.
	for name, hello := range map[string][]byte{
		"silence": nil, "multistream": []byte("\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"), "garbage": bytes.Repeat([]byte{0xA5}, 4096),
	} {
		t.Run("a raw connection learns nothing by "+name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", tcpOf(t, first))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Write(hello); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(io.LimitReader(conn, 1<<16)) // until it hangs up or the deadline
			for _, word := range []string{"multistream", "tls", "noise", "ggen", "yamux"} {
				if bytes.Contains(said, []byte(word)) {
					t.Errorf("it says %q", said)
				}
			}
		})
	}
	t.Run("it needs TCP", func(t *testing.T) {
		_, err := node.Open(t.Context(), node.Config{Identity: p2ptest.Identity(t), Listen: loopback[1:], Secret: secret})
		if !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("got %v", err)
		}
	})
}

// TestGuests: with a list, who has the key and is not on it gets no stream.
func TestGuests(t *testing.T) {
	secret := newSecret(t)
	friend := p2ptest.Identity(t)
	id, err := peer.IDFromPrivateKey(friend)
	if err != nil {
		t.Fatal(err)
	}
	host := p2ptest.Open(t, onLoopback(t, node.Config{Secret: secret, Allow: []peer.ID{id}}))
	member := p2ptest.Open(t, onLoopback(t, node.Config{Identity: friend, Secret: secret, Bootstrap: host.Addresses()}))
	p2ptest.Eventually(t, "the friend to be in", connected([]*node.Node{host, member}, 1))
	other := p2ptest.Open(t, onLoopback(t, node.Config{Secret: secret, Bootstrap: host.Addresses()}))
	if outcome := other.Bootstrap(t.Context(), host.Addresses()[:1])[0]; outcome.Err == nil {
		t.Error("somebody else is in")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if stream, err := other.Host().NewStream(ctx, host.PeerID(), "/ipfs/id/1.0.0"); err == nil {
		if data, err := io.ReadAll(stream); len(data) > 0 || err == nil {
			t.Errorf("it was told %d bytes, %v", len(data), err)
		}
	}
	// The list counts in both directions.
	if outcome := host.Bootstrap(t.Context(), other.Addresses()[:1])[0]; outcome.Err == nil {
		t.Error("it dials somebody else")
	}
}

func TestReadSecret(t *testing.T) {
	good := "/key/swarm/psk/1.0.0/\n/base16/\n" + strings.Repeat("0f", 32)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		ok   bool
	}{
		"as kubo writes it":    {good + "\n", 0o600, true},
		"without a line break": {good, 0o600, true},
		"from Windows":         {strings.ReplaceAll(good, "\n", "\r\n"), 0o600, true},
		"readable by others":   {good, 0o644, runtime.GOOS == "windows"},
		"another encoding":     {strings.Replace(good, "base16", "base64", 1), 0o600, false},
		"another kind":         {strings.Replace(good, "psk", "xyz", 1), 0o600, false},
		"a short key":          {good[:len(good)-2], 0o600, false},
		"a long key":           {good + "0f", 0o600, false},
		"no digits":            {good[:len(good)-2] + "zz", 0o600, false},
		"empty":                {"", 0o600, false},
		"huge":                 {good + strings.Repeat("\n", 2000), 0o600, false},
	} {
		file := filepath.Join(t.TempDir(), "network.key")
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := node.ReadSecret(file)
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, shared.ReasonInvalidArgument) || shared.AsError(err).Hint == "" || strings.Contains(err.Error(), "0f0f")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		if _, err := node.ReadSecret(path); !errors.Is(err, shared.ReasonInvalidArgument) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestOtherProgramsJoin: the key is libp2p's own, so any host with it can speak.
func TestOtherProgramsJoin(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	file := filepath.Join(t.TempDir(), "swarm.key")
	if err := os.WriteFile(file, []byte("/key/swarm/psk/1.0.0/\n/base16/\n"+hex.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := node.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	ours := p2ptest.Open(t, onLoopback(t, node.Config{Secret: secret}))
	theirs, err := libp2p.New(libp2p.NoListenAddrs, libp2p.PrivateNetwork(pnet.PSK(key)), libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }()
	info, err := peer.AddrInfoFromString(ours.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedPeersStayOut: neither side can connect to the other, and Expel ends what there
// was. Others are let in.
func TestRefusedPeersStayOut(t *testing.T) {
	var refused atomic.Value // of peer.ID
	refused.Store(peer.ID(""))
	n := p2ptest.Open(t, onLoopback(t, node.Config{Refuse: func(p peer.ID) bool { return p == refused.Load() }}))
	out := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: n.Addresses()}))
	in := p2ptest.Open(t, onLoopback(t, node.Config{Bootstrap: n.Addresses()}))
	p2ptest.Eventually(t, "both are connected", func() bool { return len(n.Connected()) == 2 })
	refused.Store(out.PeerID())
	n.Expel(out.PeerID())
	p2ptest.Eventually(t, "one is put out", func() bool { return slices.Equal(n.Connected(), []peer.ID{in.PeerID()}) })
	outcome := n.Bootstrap(t.Context(), out.Addresses()[:1])[0]
	if outcome.Err == nil || !strings.Contains(outcome.Err.Message, "no connections with this peer") {
		t.Fatalf("dialling it gives %+v", outcome)
	}
	// From out there a connection may look open until the word that it was refused arrives.
	p2ptest.Eventually(t, "it is not let in again", func() bool {
		return out.Bootstrap(t.Context(), n.Addresses()[:1])[0].Err != nil && slices.Equal(n.Connected(), []peer.ID{in.PeerID()})
	})
	refused.Store(peer.ID(""))
	p2ptest.Eventually(t, "it may come back", func() bool {
		return out.Bootstrap(t.Context(), n.Addresses()[:1])[0].Err == nil
	})
}
