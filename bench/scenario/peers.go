package scenario

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// patience is how long a state is waited for, in the world's time.
const patience = 10 * time.Minute

// peers is a network of whole engines.
type peers struct {
	r       *Run
	net     *p2ptest.Network // nil: loopback
	engines []*p2p.Engine
	number  map[string]int // by peer ID
}

// network begins a network without peers: a simulated one in virtual time, else loopback.
func (r *Run) network() *peers {
	n := &peers{r: r, number: map[string]int{}}
	if r.Scenario.World == Virtual {
		n.net = p2ptest.NewNetwork(r, r.Links.Network())
	}
	return n
}

// divided begins a simulated network through which nothing passes between hosts of even
// and of odd numbers while it is cut.
func (r *Run) divided(cut *atomic.Bool) *peers {
	whole := r.Links.Network()
	between := whole.Between
	whole.Between = func(from, to int) time.Duration {
		if cut.Load() && from%2 != to%2 {
			return links.Never
		}
		return between(from, to)
	}
	return &peers{r: r, number: map[string]int{}, net: p2ptest.NewNetwork(r, whole)}
}

// open starts the next engine. Its configuration is completed with what makes it part
// of this network. Call it from one goroutine.
func (n *peers) open(cfg p2p.Config, bootstrap ...int) *p2p.Engine {
	i := len(n.engines)
	if cfg.Home == "" {
		cfg.Home = n.r.TempDir()
	}
	cfg.Version = "0.1.0"
	// DHTServer stays off: it also answers whether others can be reached, for which
	// libp2p opens a second dialler, with sockets of the system's.
	if n.net != nil {
		cfg.Listen, cfg.Options = n.net.Listen(i), n.net.OptionsOf(i)
	} else {
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	}
	for _, b := range bootstrap {
		cfg.Bootstrap = append(cfg.Bootstrap, n.status(b).ListenAddresses...)
	}
	e, err := p2p.Open(n.r.Context(), cfg)
	if err != nil {
		n.r.Fatal(err)
	}
	closed := sync.OnceValue(e.Close)
	n.r.Cleanup(func() {
		if err := closed(); err != nil {
			n.r.Errorf("close peer %d: %v", i, err)
		}
	})
	n.engines = append(n.engines, e)
	n.number[n.status(i).PeerID] = i
	return e
}

// grow opens engines until there are count, each of which knows a few random ones.
// configure may be nil.
func (n *peers) grow(count int, configure func(i int) p2p.Config) {
	random := n.r.random()
	for i := len(n.engines); i < count; i++ {
		var cfg p2p.Config
		if configure != nil {
			cfg = configure(i)
		}
		n.open(cfg, acquaint(random, i)...)
	}
}

// acquaint chooses a few of the first i peers for the next one to know.
func acquaint(random *rand.Rand, i int) []int {
	known := map[int]bool{}
	for range min(i, acquaintances) {
		known[random.IntN(i)] = true
	}
	return slices.Sorted(maps.Keys(known))
}

// status asks an engine.
func (n *peers) status(i int) shared.NodeStatus {
	status, err := n.engines[i].Status(n.r.Context())
	if err != nil {
		n.r.Fatal(err)
	}
	return status
}

// neighbours are the numbers of the engines that one is connected to.
func (n *peers) neighbours(i int) (numbers []int) {
	list, err := n.engines[i].Peers(n.r.Context(), shared.PeerQuery{ConnectedOnly: true})
	if err != nil {
		n.r.Fatal(err)
	}
	for _, p := range list.Peers {
		if number, ok := n.number[p.ID]; ok {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// await polls until met says yes.
func (r *Run) await(what string, every time.Duration, met func() bool) {
	deadline := time.Now().Add(patience)
	for !met() {
		if time.Now().After(deadline) {
			r.Fatalf("waited %s for %s", patience, what)
		}
		<-time.After(every)
	}
}

// connected waits until every engine has a neighbour, and the mesh has had time to form.
func (n *peers) connected() {
	n.r.await("connections", 50*time.Millisecond, func() bool {
		return !slices.ContainsFunc(n.engines, func(e *p2p.Engine) bool {
			status, err := e.Status(n.r.Context())
			return err != nil || status.ConnectedPeers < min(acquaintances, len(n.engines)-1)
		})
	})
	const heartbeats = 5 * time.Second // gossipsub's is one second
	<-time.After(heartbeats)
}

// complete waits until every engine knows so many releases.
func (n *peers) complete(releases int) {
	n.r.await(fmt.Sprintf("%d releases at every peer", releases), 50*time.Millisecond, func() bool {
		return !slices.ContainsFunc(n.engines, func(e *p2p.Engine) bool {
			status, err := e.Status(n.r.Context())
			return err != nil || status.Releases < releases
		})
	})
}

// seed makes the home of a peer that has published packages.
func (r *Run) seed(packages int) p2p.Config {
	home := filepath.Join(r.TempDir(), "home")
	const each = 10 // packages of a publisher
	if err := p2ptest.SeedHome(home, packages/each, each); err != nil {
		r.Fatal(err)
	}
	return p2p.Config{Home: home}
}

// publish releases a package of about 30 KB.
func (r *Run) publish(e *p2p.Engine, name string) { r.publishOf(e, name, 30<<10) }

func (r *Run) publishOf(e *p2p.Engine, name string, size int) {
	if _, err := e.Publish(r.Context(), shared.PublishRequest{}, tree(name, size), nil); err != nil {
		r.Fatalf("publish %s: %v", name, err)
	}
}

// tree is a package folder of about so many bytes in ten files, as a tar stream.
func tree(name string, size int) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(file, content string) {
		// Writing to memory does not fail.
		_ = w.WriteHeader(&tar.Header{Name: file, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg})
		_, _ = io.WriteString(w, content)
	}
	put("package.toml", fmt.Sprintf("[package]\nname = %q\nversion = \"1.0.0\"\ndescription = \"a package to measure with\"\n", name))
	const files = 9
	for i := range files {
		line := fmt.Sprintf("%s template %d\n", name, i)
		put(fmt.Sprintf("templates/%d.tmpl", i), strings.Repeat(line, size/files/len(line)+1))
	}
	_ = w.Close()
	return &buf
}

// usable waits until an engine's search finds a package, and is how long that took.
func (n *peers) usable(e *p2p.Engine, text string) time.Duration {
	began := time.Now()
	n.r.await("a search that finds "+text, time.Millisecond, func() bool {
		found, err := e.Search(n.r.Context(), shared.SearchQuery{Text: text, Limit: 1})
		if err != nil {
			n.r.Errorf("search: %v", err)
			return true
		}
		return found.Total > 0
	})
	return time.Since(began)
}

// heard says when engines heard of releases, by name and by engine.
type heard struct {
	mu sync.Mutex
	at map[string]map[int]time.Time
}

// watch notes when each engine hears of a release, until the scope ends.
func (n *peers) watch() *heard {
	h := &heard{at: map[string]map[int]time.Time{}}
	ctx, cancel := context.WithCancel(n.r.Context())
	var watching sync.WaitGroup
	for i, e := range n.engines {
		watching.Go(func() {
			err := e.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{shared.EventRelease}}, func(event shared.Event) error {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.at[event.Package.Name] == nil {
					h.at[event.Package.Name] = map[int]time.Time{}
				}
				h.at[event.Package.Name][i] = time.Now()
				return nil
			})
			if err != nil && !errors.Is(err, shared.ReasonCanceled) {
				n.r.Errorf("watch peer %d: %v", i, err)
			}
		})
	}
	n.r.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	<-time.After(time.Second) // nothing says that an engine is being watched
	return h
}

// of are the times at which engines heard of a package.
func (h *heard) of(name string) map[int]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.at[name])
}
