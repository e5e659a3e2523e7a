package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxKnown bounds the remembered peers. After a restart each of them is a
	// chance to find the network again; of 100, with half of all peers gone every
	// day, some are still there after a week.
	maxKnown = 100

	// maxKnownAddrs bounds the addresses of one remembered peer.
	maxKnownAddrs = 8

	// maxKnownFile bounds the file: 100 peers with 8 addresses take about 60 KB.
	maxKnownFile = 256 << 10

	// forgetAfter is when a peer that was not met again is forgotten.
	forgetAfter = 30 * 24 * time.Hour

	// saveInterval is the longest time that a change waits to be written.
	saveInterval = 10 * time.Second

	knownVersion = 1
)

// knownPeer is a member that was connected once, and how to dial it.
type knownPeer struct {
	peer.AddrInfo
	seen time.Time
}

// known is the memory of a node beyond its process: whom it met and on which
// ports it listened. It is a cache: damage costs time, not correctness.
type known struct {
	path string

	mu     sync.Mutex // guards the fields below
	peers  []knownPeer
	listen []ma.Multiaddr
	saved  []byte // what the file holds
}

// knownFile is the file's JSON.
type knownFile struct {
	Version int             `json:"version"`
	Listen  []string        `json:"listen,omitempty"`
	Peers   []knownFilePeer `json:"peers"`
}

type knownFilePeer struct {
	ID        string    `json:"id"`
	Addresses []string  `json:"addresses"`
	Seen      time.Time `json:"seen"`
}

// loadKnown reads the file. What cannot be read is told to the log and treated
// as never written.
func loadKnown(path string, log *slog.Logger) *known {
	k := &known{path: path}
	if path == "" {
		return k
	}
	data, err := readKnown(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k
	}
	if err == nil {
		k.peers, k.listen, err = parseKnown(data)
	}
	if err != nil {
		log.Warn("forgetting the known peers", "path", path, "error", err)
		return &known{path: path}
	}
	k.saved = data
	return k
}

func readKnown(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	return io.ReadAll(io.LimitReader(file, maxKnownFile+1))
}

// parseKnown reads the content of the file. A peer that makes no sense is left
// out, so that a newer version may add what this one does not know.
func parseKnown(data []byte) (peers []knownPeer, listen []ma.Multiaddr, err error) {
	if len(data) > maxKnownFile {
		return nil, nil, fmt.Errorf("more than %d bytes", maxKnownFile)
	}
	var file knownFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, nil, err
	}
	if file.Version != knownVersion {
		return nil, nil, fmt.Errorf("version %d is not %d", file.Version, knownVersion)
	}
	for _, p := range file.Peers[:min(len(file.Peers), maxKnown)] {
		id, err := peer.Decode(p.ID)
		if err != nil {
			continue
		}
		info := peer.AddrInfo{ID: id, Addrs: parseAddrs(p.Addresses, maxKnownAddrs)}
		if len(info.Addrs) > 0 {
			peers = append(peers, knownPeer{info, p.Seen})
		}
	}
	return peers, parseAddrs(file.Listen, maxListen), nil
}

func parseAddrs(texts []string, most int) (addrs []ma.Multiaddr) {
	for _, s := range texts[:min(len(texts), most)] {
		if addr, err := ma.NewMultiaddr(s); err == nil && len(addr) > 0 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// ports are the addresses that the last run listened on by choice of the system.
func (k *known) ports() []ma.Multiaddr {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listen
}

func (k *known) setPorts(addrs []ma.Multiaddr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listen = addrs
}

func (k *known) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.peers)
}

// list is all known peers, the one met last first.
func (k *known) list() []peer.AddrInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	infos := make([]peer.AddrInfo, len(k.peers))
	for i, p := range k.peers {
		infos[i] = p.AddrInfo
	}
	return infos
}

// meet notes that the given members are connected now.
func (k *known) meet(h host.Host, ids []peer.ID, now time.Time) {
	met := make([]knownPeer, 0, len(ids))
	for _, id := range ids {
		if addrs := dialable(h, id); len(addrs) > 0 {
			met = append(met, knownPeer{peer.AddrInfo{ID: id, Addrs: addrs}, now})
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.peers {
		if now.Sub(p.seen) < forgetAfter && !slices.ContainsFunc(met, func(m knownPeer) bool { return m.ID == p.ID }) {
			met = append(met, p)
		}
	}
	slices.SortStableFunc(met, func(a, b knownPeer) int { return b.seen.Compare(a.seen) })
	k.peers = met[:min(len(met), maxKnown)]
}

// dialable are the addresses of a connected peer that are worth remembering: the
// one that was dialled, then those that the peer says it listens on. The remote
// address of an incoming connection is a port that nobody listens on.
func dialable(h host.Host, id peer.ID) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, conn := range h.Network().ConnsToPeer(id) {
		if conn.Stat().Direction == network.DirOutbound {
			addrs = append(addrs, conn.RemoteMultiaddr())
		}
	}
	for _, addr := range advertised(h.Peerstore().Addrs(id)) {
		if _, err := addr.ValueForProtocol(ma.P_CIRCUIT); err != nil && !ma.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs[:min(len(addrs), maxKnownAddrs)]
}

// save writes the file if it would change.
func (k *known) save() error {
	if k.path == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	file := knownFile{Version: knownVersion, Peers: []knownFilePeer{}}
	for _, addr := range k.listen {
		file.Listen = append(file.Listen, addr.String())
	}
	for _, p := range k.peers {
		texts := make([]string, len(p.Addrs))
		for i, addr := range p.Addrs {
			texts[i] = addr.String()
		}
		file.Peers = append(file.Peers, knownFilePeer{p.ID.String(), texts, p.seen.UTC().Truncate(time.Second)})
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	if bytes.Equal(data, k.saved) {
		return nil
	}
	if err := writeFile(k.path, data, func(temporary string) error { return os.Rename(temporary, k.path) }); err != nil {
		return fmt.Errorf("write known peers: %w", err)
	}
	k.saved = data
	return nil
}
