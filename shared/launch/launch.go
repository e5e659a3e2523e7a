// Package launch is what the host and an engine binary agree on before they can
// speak gRPC: what an engine is started with, what it answers when it is up, and
// the state that it leaves in its lock file while it lives.
//
// It starts nothing (package host/engine does) and serves nothing (plugin does).
package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ggen.dev/marketplace/shared"
)

// DefaultIdleStop is how long an engine that nobody asked to stay lives on
// without being used.
const DefaultIdleStop = 10 * time.Minute

// DefaultLockWait is enough for an engine that has no calls left to finish.
const DefaultLockWait = 15 * time.Second

// SpecVariable is the environment variable that carries a [Spec], as JSON, to an
// engine that go-plugin starts for one command.
const SpecVariable = "GGEN_ENGINE_SPEC"

// LogFormatVariable is the environment variable by which the engine writes its log as JSON,
// a record a line, if it is "json".
const LogFormatVariable = "GGEN_LOG_FORMAT"

// PassphraseVariable is the environment variable that carries the passphrase of an
// encrypted key to a command. Engines do not inherit it.
const PassphraseVariable = "GGEN_KEY_PASSPHRASE" //nolint:gosec // a name

// NoSocket is the metadata key of a start error by which an engine says that it
// works, except that it cannot make a socket where it was told to.
const NoSocket = "no_socket"

// Settings are what a user may choose about an engine.
type Settings struct {
	Listen    []string      `json:"listen,omitempty"`
	Bootstrap []string      `json:"bootstrap,omitempty"`
	DHTServer bool          `json:"dht_server,omitempty"`
	Network   string        `json:"network,omitempty"`
	IdleStop  time.Duration `json:"idle_stop,omitempty"` // 0: DefaultIdleStop
	// Memory is how many bytes the engine's process may use; 0: as many as there are.
	// The engine collects garbage harder when it comes near, and dies beyond it.
	Memory int64 `json:"memory,omitempty"`
	// NetworkKey is the file of the pre-shared key of a private network, absolute; the
	// engine reads it. Empty: the network is open.
	NetworkKey string `json:"network_key,omitempty"`
	// AllowPeers are the IDs of the only peers that may connect. Empty: all.
	AllowPeers []string `json:"allow_peers,omitempty"`
	// NoMDNS keeps the engine from looking for peers in the local network.
	NoMDNS bool `json:"no_mdns,omitempty"`
	// LookupFanout and LookupConcurrency are how many peers a lookup asks; 0: the engine's
	// defaults.
	LookupFanout      int `json:"lookup_fanout,omitempty"`
	LookupConcurrency int `json:"lookup_concurrency,omitempty"`
	// Light makes an engine that keeps no catalogue, SuperPeer one that offers to answer
	// for light ones.
	Light     bool `json:"light,omitempty"`
	SuperPeer bool `json:"super_peer,omitempty"`
	// UploadLimit is how many bytes a second the engine sends of packages; 0: no limit.
	UploadLimit int64 `json:"upload_limit,omitempty"`
	// Cache bounds what the engine keeps and remembers of packages.
	Cache Cache `json:"cache,omitzero"`
	// MetricsAddr is the loopback address, host:port, at which metrics can be read. Empty: none.
	MetricsAddr string `json:"metrics_addr,omitempty"`
	// Location is about where this machine is, if other peers may know. nil: they may not.
	Location *Location `json:"location,omitempty"`
}

// Cache bounds what an engine keeps and remembers; 0 is the engine's default. Size is in
// bytes of content that need not stay, and Lifetime is for how long that is kept after it
// was wanted last; the others are of the tiers in memory.
type Cache struct {
	Size         int64         `json:"size,omitempty"`
	Lifetime     time.Duration `json:"lifetime,omitempty"`
	HotEntries   int           `json:"hot_entries,omitempty"`
	HotLifetime  time.Duration `json:"hot_lifetime,omitempty"`
	WarmEntries  int           `json:"warm_entries,omitempty"`
	WarmLifetime time.Duration `json:"warm_lifetime,omitempty"`
}

// String is JSON, as the flag -cache takes it.
func (c Cache) String() string {
	data, err := json.Marshal(c)
	if err != nil { // numbers alone
		return "{}"
	}
	return string(data)
}

// ParseCache reads what String gives.
func ParseCache(text string) (c Cache, err error) {
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("%q does not bound a cache: %w", text, err)
	}
	return c, c.Check()
}

// maxCacheEntries bounds the tiers in memory: a warm entry may have 64 KiB.
const maxCacheEntries = 100_000

// Check refuses what is no bound.
func (c Cache) Check() error {
	switch {
	case c.Size < 0 || c.Lifetime < 0 || c.HotLifetime < 0 || c.WarmLifetime < 0:
		return errors.New("the bounds of the cache must not be negative")
	case min(c.HotEntries, c.WarmEntries) < 0 || max(c.HotEntries, c.WarmEntries) > maxCacheEntries:
		return fmt.Errorf("the cache can hold %d and %d entries in memory: 1 to %d are allowed", c.HotEntries, c.WarmEntries, maxCacheEntries)
	}
	return nil
}

// Location is a place to the degree. Region is a name for people: a-z, 0-9 and '-', at most
// [MaxRegion] bytes; it may be empty.
type Location struct {
	Latitude  int    `json:"latitude"` // north is positive
	Longitude int    `json:"longitude"`
	Region    string `json:"region,omitempty"`
}

// MaxRegion bounds the name of a region in bytes.
const MaxRegion = 32

// String is the location in one word: "48,12,eu-central", as the flag -location takes it.
func (l Location) String() string { return fmt.Sprintf("%d,%d,%s", l.Latitude, l.Longitude, l.Region) }

// ParseLocation reads what String gives.
func ParseLocation(text string) (Location, error) {
	var l Location
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return l, fmt.Errorf("%q is not a location: LATITUDE,LONGITUDE,REGION", text)
	}
	for i, into := range []*int{&l.Latitude, &l.Longitude} {
		degrees, err := strconv.Atoi(parts[i])
		if err != nil {
			return l, fmt.Errorf("%q is not a location: degrees are whole numbers", text)
		}
		*into = degrees
	}
	l.Region = parts[2]
	return l, l.Check()
}

// Check refuses what is no place on Earth, and a region that is no name.
func (l Location) Check() error {
	named := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	switch {
	case l.Latitude < -90 || l.Latitude > 90 || l.Longitude < -180 || l.Longitude > 180:
		return fmt.Errorf("%d degrees north, %d east: latitudes end at 90, longitudes at 180", l.Latitude, l.Longitude)
	case len(l.Region) > MaxRegion || strings.ContainsFunc(l.Region, func(r rune) bool { return !named(r) }):
		return fmt.Errorf("%q is no region: a-z, 0-9 and '-', at most %d bytes", l.Region[:min(len(l.Region), MaxRegion)], MaxRegion)
	}
	return nil
}

// Equal tells whether two settings mean the same.
func (s Settings) Equal(other Settings) bool {
	idle := func(s Settings) time.Duration {
		if s.IdleStop <= 0 {
			return DefaultIdleStop
		}
		return s.IdleStop
	}
	return idle(s) == idle(other) && slices.Equal(s.Listen, other.Listen) && slices.Equal(s.Bootstrap, other.Bootstrap) &&
		s.DHTServer == other.DHTServer && s.Network == other.Network && s.Memory == other.Memory &&
		s.NetworkKey == other.NetworkKey && slices.Equal(s.AllowPeers, other.AllowPeers) && s.NoMDNS == other.NoMDNS &&
		(s.Location == nil) == (other.Location == nil) && (s.Location == nil || *s.Location == *other.Location) &&
		s.Light == other.Light && s.SuperPeer == other.SuperPeer &&
		s.LookupFanout == other.LookupFanout && s.LookupConcurrency == other.LookupConcurrency &&
		s.UploadLimit == other.UploadLimit && s.Cache == other.Cache && s.MetricsAddr == other.MetricsAddr
}

// Spec is everything an engine is started with.
type Spec struct {
	Home     string   `json:"home"` // absolute
	Run      string   `json:"run"`  // folder of its lock and socket; absolute, 0700
	Settings Settings `json:"settings"`
	Stay     bool     `json:"stay,omitempty"` // until it is stopped
	// LockWait is how long the engine waits for one that is shutting down to let go
	// of the lock; 0: DefaultLockWait.
	LockWait time.Duration `json:"lock_wait,omitempty"`
}

// State is the content of a running engine's lock file. An engine that died
// without cleaning up leaves it there, unlocked.
type State struct {
	PID       int       `json:"pid"`
	Instance  string    `json:"instance"`
	Network   string    `json:"network"` // of the socket: "unix"
	Address   string    `json:"address"`
	Version   string    `json:"version"`
	Protocols []int     `json:"protocols"`        // versions of the contract that it speaks
	Binary    string    `json:"binary,omitempty"` // the file that it was started from
	Crash     string    `json:"crash,omitempty"`  // its crash report, should it die
	Settings  Settings  `json:"settings"`
	Staying   bool      `json:"staying,omitempty"`
	Started   time.Time `json:"started"`
	Ended     string    `json:"ended,omitempty"` // why it ended by itself although it was to stay
}

// LockFile is held by an engine for its whole life.
func LockFile(run string) string { return filepath.Join(run, "engine.lock") }

// HostLockFile is held by a host while it looks for an engine or starts one.
func HostLockFile(run string) string { return filepath.Join(run, "host.lock") }

// UnverifiedFile names the instance of the engine that runs, if the host has started
// it without verifying it.
func UnverifiedFile(run string) string { return filepath.Join(run, "unverified") }

// LogFile is where an engine of this home writes its log.
func LogFile(home string) string { return filepath.Join(home, "log", "engine.log") }

// MaxLog is the size in bytes at which a log is put aside as its path with ".old"
// at the end, replacing the one before.
const MaxLog = 4 << 20

// CrashDir holds the reports of engines of this home that crashed.
func CrashDir(home string) string { return filepath.Join(home, "crash") }

// CrashFile is where the engine that started at that time reports why it crashed.
// The file exists while the engine runs, and is removed when it ends as it should.
// The names sort by time.
func CrashFile(home string, at time.Time, pid int) string {
	return filepath.Join(CrashDir(home), fmt.Sprintf("%s-%d.txt", at.UTC().Format("20060102T150405.000"), pid))
}

// MinMemory is the least that [Settings.Memory] may be, in bytes: an idle engine
// fits with room to work.
const MinMemory = 256 << 20

// Bounds on crash reports: how many are kept, the newest ones, and how many bytes
// of each.
const (
	MaxCrashes   = 10
	MaxCrashSize = 256 << 10
)

// AttachVariable is the environment variable with the socket of an engine that
// somebody started by hand (serve -debug). A host that finds it attaches there
// without looking for, starting or replacing any engine.
const AttachVariable = "GGEN_ENGINE_ATTACH"

// maxState bounds a state file.
const maxState = 64 << 10

// ReadState reads the state in a lock file. ok is false when there is none, or
// when it is just being written.
func ReadState(run string) (state State, ok bool) {
	data, err := os.ReadFile(LockFile(run))
	if err != nil || len(data) == 0 || len(data) > maxState {
		return State{}, false
	}
	if err := json.Unmarshal(data, &state); err != nil || state.Address == "" {
		return State{}, false
	}
	return state, true
}

// WriteState writes the state into the lock file, in place: the lock is on this
// very file. The caller holds the lock. A nil state empties it.
func WriteState(run string, state *State) error {
	var data []byte
	if state != nil {
		var err error
		if data, err = json.Marshal(state); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(LockFile(run), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// Shorter than before or not, the rest is cut off after the new text stands.
	_, err = file.WriteAt(data, 0)
	return errors.Join(err, file.Truncate(int64(len(data))), file.Sync(), file.Close())
}

// Answer is what an engine prints, as one line of JSON on its standard output,
// when it is up or has failed to come up. Nothing else is ever written there.
type Answer struct {
	State *State  `json:"state,omitempty"`
	Error *Failed `json:"error,omitempty"`
}

// Failed is a [shared.Error] as JSON.
type Failed struct {
	Reason    shared.Reason     `json:"reason"`
	Message   string            `json:"message"`
	Hint      string            `json:"hint,omitempty"`
	Retryable bool              `json:"retryable,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

// FailedFrom makes the JSON form of an error.
func FailedFrom(err error) *Failed {
	e := shared.AsError(err)
	return &Failed{Reason: e.Reason, Message: e.Message, Hint: e.Hint, Retryable: e.Retryable, Metadata: e.Metadata}
}

// Err is the error again.
func (f *Failed) Err() *shared.Error {
	e := shared.NewError(f.Reason, "%s", f.Message)
	e.Hint, e.Retryable, e.Metadata = f.Hint, f.Retryable, f.Metadata
	return e
}

// MaxAnswer bounds an answer, in bytes.
const MaxAnswer = 64 << 10

// ParseAnswer reads the line that an engine printed.
func ParseAnswer(line []byte) (Answer, error) {
	var a Answer
	if err := json.Unmarshal(bytes.TrimSpace(line), &a); err != nil {
		return Answer{}, fmt.Errorf("it does not answer like an engine: %w", err)
	}
	if (a.State == nil) == (a.Error == nil) {
		return Answer{}, errors.New("it does not answer like an engine")
	}
	return a, nil
}
