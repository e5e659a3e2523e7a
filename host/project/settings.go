package project

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/pelletier/go-toml/v2"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// ConfigName is the user's settings file, in the home of ggen.
const ConfigName = "config.toml"

// The environment variables that settings come from.
const (
	EnvHome      = "GGEN_HOME"
	EnvBootstrap = "GGEN_P2P_BOOTSTRAP" // addresses, separated by commas
	EnvListen    = "GGEN_P2P_LISTEN"    // addresses, separated by commas
	EnvDHTServer = "GGEN_P2P_DHT_SERVER"
	EnvMemory    = "GGEN_ENGINE_MEMORY" // a size such as 512MiB
	EnvPolicy    = "GGEN_TRUST_POLICY"  // tofu or allow-list
	EnvMinAge    = "GGEN_MIN_AGE"       // an age such as 3d
	EnvKey       = "GGEN_P2P_NETWORK_KEY"
	EnvAllow     = "GGEN_P2P_ALLOW" // peer IDs, separated by commas
	EnvMDNS      = "GGEN_P2P_MDNS"
	EnvLight     = "GGEN_P2P_LIGHT"
	EnvMetrics   = "GGEN_P2P_METRICS_ADDR"
	EnvSuper     = "GGEN_P2P_SUPER_PEER"
)

// Bounds on addresses. A multiaddr with a peer ID has about 100 bytes, and a node
// gains nothing from more addresses than this.
const (
	maxAddresses  = 64
	maxAddressLen = 512
)

// Settings are what a user may choose about the node. The zero value leaves the
// choice to the engine.
type Settings struct {
	Listen    []string      // multiaddrs to listen on
	Bootstrap []string      // multiaddrs of peers to start from
	DHTServer bool          // answer DHT queries even when not known to be reachable
	IdleStop  time.Duration // how long an unused engine stays; 0: its default
	Memory    int64         // bytes that the engine may use; 0: no limit

	NetworkKey string   // file of the pre-shared key of a private network, absolute; empty: it is open
	AllowPeers []string // IDs of the only peers that may connect; empty: all
	NoMDNS     bool     // do not look for peers in the local network
	Light      bool     // keep no catalogue, ask other peers
	SuperPeer  bool     // offer to answer for light peers

	LookupFanout      int // peers that a lookup asks at first; 0: 5
	LookupConcurrency int // and at most at once; 0: 10

	UploadLimit int64        // bytes a second that are sent of packages; 0: no limit
	Cache       launch.Cache // what is kept and remembered
	MetricsAddr string       // loopback address at which metrics can be read; empty: none

	Location *launch.Location // about where this machine is, for every peer to know; nil: none does
}

// Given is one source's settings; what is nil is left to the next source.
type Given struct {
	Listen    []string
	Bootstrap []string
	DHTServer *bool
	IdleStop  *time.Duration
	Memory    *int64

	NetworkKey string   // empty leaves it to the next source
	AllowPeers []string // nil leaves it to the next source
	MDNS       *bool
	Light      *bool
	SuperPeer  *bool

	LookupFanout      int // 0 leaves it to the next source
	LookupConcurrency int

	UploadLimit int64        // 0 leaves it to the next source
	Cache       launch.Cache // the zero value leaves it to the next source
	MetricsAddr string       // empty leaves it to the next source

	Location *launch.Location

	Policy   shared.TrustPolicy // empty leaves it to the next source
	MinAge   time.Duration      // of releases; 0 leaves it to the next source
	MaxFiles int                // of a package; 0 leaves it to the next source
	MaxSize  int64              // of a package's archive in bytes; 0 leaves it to the next source
}

// Merge takes each setting from the first source that has it.
func Merge(sources ...Given) Settings {
	var s Settings
	var dht, mdns, light, super *bool
	var idle *time.Duration
	var memory *int64
	for _, g := range sources {
		if s.Listen == nil {
			s.Listen = g.Listen
		}
		if s.Bootstrap == nil {
			s.Bootstrap = g.Bootstrap
		}
		if dht == nil {
			dht = g.DHTServer
		}
		if mdns == nil {
			mdns = g.MDNS
		}
		if light == nil {
			light = g.Light
		}
		if super == nil {
			super = g.SuperPeer
		}
		if idle == nil {
			idle = g.IdleStop
		}
		if memory == nil {
			memory = g.Memory
		}
		s.NetworkKey = cmp.Or(s.NetworkKey, g.NetworkKey)
		if s.Location == nil {
			s.Location = g.Location
		}
		s.LookupFanout = cmp.Or(s.LookupFanout, g.LookupFanout)
		s.LookupConcurrency = cmp.Or(s.LookupConcurrency, g.LookupConcurrency)
		s.UploadLimit = cmp.Or(s.UploadLimit, g.UploadLimit)
		s.Cache = cmp.Or(s.Cache, g.Cache)
		s.MetricsAddr = cmp.Or(s.MetricsAddr, g.MetricsAddr)
		if s.AllowPeers == nil {
			s.AllowPeers = g.AllowPeers
		}
	}
	if dht != nil {
		s.DHTServer = *dht
	}
	s.NoMDNS = mdns != nil && !*mdns
	s.Light, s.SuperPeer = light != nil && *light, super != nil && *super
	if idle != nil {
		s.IdleStop = *idle
	}
	if memory != nil {
		s.Memory = *memory
	}
	return s
}

// Check refuses what no engine could use. Errors: INVALID_ARGUMENT.
func (s Settings) Check() error {
	if n := max(s.LookupFanout, s.LookupConcurrency); n > maxLookup || min(s.LookupFanout, s.LookupConcurrency) < 0 {
		return shared.NewError(shared.ReasonInvalidArgument, "lookup_fanout %d, lookup_concurrency %d: 1 to %d peers can be asked at once", s.LookupFanout, s.LookupConcurrency, maxLookup)
	}
	if err := checkMetricsAddr(s.MetricsAddr); err != nil {
		return err
	}
	if s.Light && (s.SuperPeer || s.DHTServer) {
		return shared.NewError(shared.ReasonInvalidArgument, "a light peer keeps nothing that it could answer others with").
			WithHint("leave out light, or super_peer and dht_server")
	}
	for what, addresses := range map[string][]string{"listen": s.Listen, "bootstrap": s.Bootstrap} {
		if len(addresses) > maxAddresses {
			return shared.NewError(shared.ReasonInvalidArgument, "%d %s addresses are given; %d are allowed", len(addresses), what, maxAddresses)
		}
		for _, address := range addresses {
			if err := CheckAddress(address); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkMetricsAddr refuses an address that others can reach: metrics tell what a machine
// does, to whoever asks.
func checkMetricsAddr(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 {
		return shared.NewError(shared.ReasonInvalidArgument, "metrics_addr %q is not an IP address of this machine, a colon and a port", address).
			WithHint("write 127.0.0.1:9464, for example")
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return shared.NewError(shared.ReasonInvalidArgument, "metrics_addr %q is not an address of this machine alone", address).
			WithHint("write 127.0.0.1:%d, and let a collector on this machine read it", n)
	}
	return nil
}

// CheckAddress refuses what is certainly no multiaddr; the engine parses the rest.
// Errors: INVALID_ARGUMENT.
func CheckAddress(address string) error {
	if len(address) > maxAddressLen || !strings.HasPrefix(address, "/") || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return shared.NewError(shared.ReasonInvalidArgument, "%q is not an address", address[:min(len(address), 80)]).
			WithHint("addresses look like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…; `ggen marketplace p2p status` on the other machine shows its own")
	}
	return nil
}

// SplitAddresses reads a list separated by commas. Empty text is nil.
func SplitAddresses(text string) []string {
	var addresses []string
	for address := range strings.SplitSeq(text, ",") {
		if address = strings.TrimSpace(address); address != "" {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// FromEnvironment reads the variables; one that is empty counts as not set.
// Errors: INVALID_ARGUMENT.
func FromEnvironment(lookup func(string) string) (Given, error) {
	g := Given{Listen: SplitAddresses(lookup(EnvListen)), Bootstrap: SplitAddresses(lookup(EnvBootstrap))}
	if g.NetworkKey = lookup(EnvKey); g.NetworkKey != "" && !filepath.IsAbs(g.NetworkKey) {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "%s is %q, which is not an absolute path", EnvKey, g.NetworkKey)
	}
	g.AllowPeers = SplitAddresses(lookup(EnvAllow))
	g.MetricsAddr = lookup(EnvMetrics)
	for variable, into := range map[string]**bool{EnvDHTServer: &g.DHTServer, EnvMDNS: &g.MDNS, EnvLight: &g.Light, EnvSuper: &g.SuperPeer} {
		if text := lookup(variable); text != "" {
			on, err := strconv.ParseBool(text)
			if err != nil {
				return Given{}, shared.NewError(shared.ReasonInvalidArgument, "%s is %q, which is neither true nor false", variable, text)
			}
			*into = &on
		}
	}
	if text := lookup(EnvMemory); text != "" {
		size, err := parseMemory(text)
		if err != nil {
			return Given{}, shared.NewError(shared.ReasonInvalidArgument, "%s is %q: %w", EnvMemory, text, err)
		}
		g.Memory = &size
	}
	return g, g.readRules(lookup(EnvPolicy), lookup(EnvMinAge), EnvPolicy, EnvMinAge)
}

// MinMemory is the least memory that an engine can be given, in bytes.
const MinMemory = launch.MinMemory

// parseMemory reads a size such as 512MiB.
func parseMemory(text string) (int64, error) {
	size, err := humanize.ParseBytes(text)
	switch {
	case err != nil:
		return 0, errors.New("that is not a size such as 512MiB")
	case size < MinMemory || size > 1<<50:
		return 0, fmt.Errorf("an engine needs %s at least", humanize.IBytes(MinMemory))
	}
	return int64(size), nil
}

// The least that makes sense: an answer a second, and a few packages.
const minUpload, minCache = 16 << 10, 16 << 20

// parseAmount reads a number of bytes; empty is 0.
func parseAmount(key, text string, least uint64) (int64, error) {
	if text == "" {
		return 0, nil
	}
	size, err := humanize.ParseBytes(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s = %q is not a size such as 512MiB", key, text)
	case size < least || size > 1<<50:
		return 0, fmt.Errorf("%s = %q: it must be %s at least", key, text, humanize.IBytes(least))
	}
	return int64(size), nil
}

// FromFile reads the tables [marketplace], [location] and [cache] of a ggen.toml or
// config.toml, the last two of the latter alone;
// other tables and keys are not ours and do not matter. A file that is not there gives
// nothing unless it is required. Errors: INVALID_ARGUMENT, STORAGE.
func FromFile(file string, required bool) (Given, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !required:
		return Given{}, nil
	case err != nil:
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %w", err)
	case !info.Mode().IsRegular(): // opening a pipe would wait for ever
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return Given{}, shared.NewError(shared.ReasonStorage, "read settings: %w", err)
	}
	if len(data) > maxManifest {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s has more than %d bytes", file, maxManifest)
	}
	return ParseSettings(file, data)
}

// maxLookup bounds the peers that a lookup asks at once: all that it looks at.
const maxLookup = 60

// settingKeys are the keys of the table [marketplace].
var settingKeys = []string{
	"listen", "bootstrap", "dht_server", "idle_stop", "memory_limit", "trust_policy", "min_age", "max_package_files", "max_package_size",
	"network_key", "allow_peers", "mdns", "light", "super_peer", "lookup_fanout", "lookup_concurrency",
	"upload_limit", "metrics_addr",
}

// knownKeys refuses a key of [marketplace] that looks like one of ours and is none: a
// misspelt trust_policy must not pass for nothing. Other programs have keys there, too.
func knownKeys(file string, data []byte) error {
	var document struct {
		Marketplace map[string]any `toml:"marketplace"`
	}
	if err := toml.Unmarshal(data, &document); err != nil {
		return nil //nolint:nilerr // the caller has decoded it
	}
	for _, key := range slices.Sorted(maps.Keys(document.Marketplace)) {
		if slices.Contains(settingKeys, key) {
			continue
		}
		if i := slices.IndexFunc(settingKeys, func(ours string) bool { return misspelt(key, ours) }); i >= 0 {
			return shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: [marketplace] has no key %q", file, key).
				WithHint("write %s", settingKeys[i]).With("file", file)
		}
	}
	return nil
}

// misspelt tells whether one key was meant for another.
func misspelt(key, ours string) bool {
	plain := strings.NewReplacer("_", "", "-", "", ".", "")
	return EditDistance(plain.Replace(strings.ToLower(key)), plain.Replace(ours)) <= 2
}

// EditDistance counts the bytes to insert, delete or replace between two words
// (Levenshtein, 1966). Words of over 32 bytes are not worth comparing: they are 32 apart.
func EditDistance(a, b string) int {
	if len(a) > 32 || len(b) > 32 {
		return 32
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// ParseSettings is [FromFile] for text that has been read.
func ParseSettings(file string, data []byte) (Given, error) {
	var document struct {
		Marketplace struct {
			Listen    []string `toml:"listen"`
			Bootstrap []string `toml:"bootstrap"`
			DHTServer *bool    `toml:"dht_server"`
			IdleStop  *string  `toml:"idle_stop"`
			Memory    *string  `toml:"memory_limit"`
			Policy    string   `toml:"trust_policy"`
			MinAge    string   `toml:"min_age"`
			MaxFiles  int      `toml:"max_package_files"`
			MaxSize   string   `toml:"max_package_size"`
			Key       string   `toml:"network_key"`
			Allow     []string `toml:"allow_peers"`
			MDNS      *bool    `toml:"mdns"`
			Light     *bool    `toml:"light"`
			Super     *bool    `toml:"super_peer"`
			Fanout    int      `toml:"lookup_fanout"`
			AtOnce    int      `toml:"lookup_concurrency"`
			Upload    string   `toml:"upload_limit"`
			Metrics   string   `toml:"metrics_addr"`
		} `toml:"marketplace"`
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).Decode(&document); err != nil {
		line, column, cause := tomlPosition(err)
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: %s", fileLine(file, line, column), cause).
			With("file", file).With("line", itoa(line)).With("column", itoa(column))
	}
	if err := knownKeys(file, data); err != nil {
		return Given{}, err
	}
	own, err := parseOwn(file, data)
	if err != nil {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: %w", file, err)
	}
	table := document.Marketplace
	if isProject(file) {
		table.Metrics = "" // what listens on a machine is not for a project to say
	}
	g := Given{
		Listen: table.Listen, Bootstrap: table.Bootstrap, DHTServer: table.DHTServer, AllowPeers: table.Allow, MDNS: table.MDNS, Light: table.Light, SuperPeer: table.Super,
		LookupFanout: table.Fanout, LookupConcurrency: table.AtOnce, Location: own.location, Cache: own.cache, MetricsAddr: table.Metrics,
	}
	if g.NetworkKey = table.Key; g.NetworkKey != "" && !filepath.IsAbs(g.NetworkKey) {
		g.NetworkKey = filepath.Join(filepath.Dir(file), g.NetworkKey)
	}
	if table.IdleStop != nil {
		idle, err := time.ParseDuration(*table.IdleStop)
		if err != nil || idle <= 0 {
			return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: idle_stop = %q is not a duration such as \"10m\"", file, *table.IdleStop)
		}
		g.IdleStop = &idle
	}
	if table.Memory != nil {
		size, err := parseMemory(*table.Memory)
		if err != nil {
			return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: memory_limit = %q: %w", file, *table.Memory, err)
		}
		g.Memory = &size
	}
	if g.UploadLimit, err = parseAmount("upload_limit", table.Upload, minUpload); err != nil {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: %w", file, err)
	}
	err = g.readRules(table.Policy, table.MinAge, "trust_policy", "min_age")
	if err == nil {
		err = g.readLimits(table.MaxFiles, table.MaxSize)
	}
	if err != nil {
		return Given{}, shared.NewError(shared.ReasonInvalidArgument, "read settings: %s: %w", file, err)
	}
	return g, nil
}

// locationTable is the table [location]. It is only what somebody wants to tell: without
// both coordinates nothing is.
type locationTable struct {
	Latitude  *float64 `toml:"latitude"`
	Longitude *float64 `toml:"longitude"`
	Region    string   `toml:"region"`
}

// cacheTable is the table [cache].
type cacheTable struct {
	Size         string `toml:"size"`
	Lifetime     string `toml:"lifetime"`
	HotEntries   int    `toml:"hot_entries"`
	HotLifetime  string `toml:"hot_lifetime"`
	WarmEntries  int    `toml:"warm_entries"`
	WarmLifetime string `toml:"warm_lifetime"`
}

func (t cacheTable) bounds() (c launch.Cache, err error) {
	c.HotEntries, c.WarmEntries = t.HotEntries, t.WarmEntries
	if c.Size, err = parseAmount("size", t.Size, minCache); err != nil {
		return c, err
	}
	for _, age := range []struct {
		key, text string
		into      *time.Duration
	}{{"lifetime", t.Lifetime, &c.Lifetime}, {"hot_lifetime", t.HotLifetime, &c.HotLifetime}, {"warm_lifetime", t.WarmLifetime, &c.WarmLifetime}} {
		if age.text == "" {
			continue
		}
		if *age.into, err = ParseAge(age.text); err != nil || *age.into <= 0 {
			return c, fmt.Errorf("%s = %q is not an age such as 36h or 7d", age.key, age.text)
		}
	}
	return c, c.Check()
}

// own are the tables that only a user's settings have.
type own struct {
	location *launch.Location
	cache    launch.Cache
}

// isProject tells whether a file belongs to a project, which somebody else may have sent.
func isProject(file string) bool { return filepath.Base(file) == ManifestName }

// parseOwn reads the tables of a user's settings. A project's file has no say in them: it
// must not tell others where this machine is, or what stays on its disk.
func parseOwn(file string, data []byte) (o own, err error) {
	if isProject(file) {
		return own{}, nil
	}
	var document struct {
		Location locationTable `toml:"location"`
		Cache    cacheTable    `toml:"cache"`
	}
	if err := toml.Unmarshal(data, &document); err != nil {
		return own{}, err
	}
	if o.location, err = document.Location.rounded(); err != nil {
		return own{}, fmt.Errorf("[location]: %w", err)
	}
	if o.cache, err = document.Cache.bounds(); err != nil {
		return own{}, fmt.Errorf("[cache]: %w", err)
	}
	return o, nil
}

// rounded is the location to whole degrees, a square of up to 111 km: what is finer never
// leaves the file. nil without a table.
func (t locationTable) rounded() (*launch.Location, error) {
	switch {
	case t.Latitude == nil && t.Longitude == nil && t.Region == "":
		return nil, nil
	case t.Latitude == nil || t.Longitude == nil:
		return nil, errors.New("it needs latitude and longitude, in degrees")
	case !(math.Abs(*t.Latitude) <= 90 && math.Abs(*t.Longitude) <= 180): // NaN, too
		return nil, fmt.Errorf("%v degrees north, %v east: latitudes end at 90, longitudes at 180", *t.Latitude, *t.Longitude)
	}
	l := &launch.Location{Latitude: int(math.Round(*t.Latitude)), Longitude: int(math.Round(*t.Longitude)), Region: t.Region}
	return l, l.Check()
}

// Home finds the home of ggen: the flag, the environment, or ~/.ggen; always
// absolute. Errors: INVALID_ARGUMENT.
func Home(flag, cwd string, lookup func(string) string) (string, error) {
	home := flag
	if home == "" {
		home = lookup(EnvHome)
	}
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", shared.NewError(shared.ReasonInvalidArgument, "find the home of ggen: %w", err).
				WithHint("set %s, or use --home", EnvHome)
		}
		home = filepath.Join(user, dotDir)
	}
	if !filepath.IsAbs(home) {
		home = filepath.Join(cwd, home)
	}
	return filepath.Clean(home), nil
}
