package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"

	"ggen.dev/marketplace/bench/delay"
	"ggen.dev/marketplace/bench/links"
	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// PeerEnv is the variable that makes a process of this program a peer; see [ServePeer].
const PeerEnv = "GGEN_BENCH_PEER"

// start is the first line that a peer reads.
type start struct {
	Home      string   `json:"home"`
	Number    int      `json:"number"`
	Seed      uint64   `json:"seed"`
	Links     string   `json:"links"`
	Bootstrap []string `json:"bootstrap"`
}

// order is a further line: a package to publish or to install.
type order struct {
	Publish string `json:"publish,omitempty"`
	Install string `json:"install,omitempty"`
}

// news is a line that a peer writes.
type news struct {
	Addresses []string      `json:"addresses,omitempty"` // it has started
	Connected int           `json:"connected,omitempty"` // so many peers are its neighbours now
	Heard     string        `json:"heard,omitempty"`     // of a release
	Done      string        `json:"done,omitempty"`      // an order
	Began     time.Time     `json:"began,omitzero"`      // of an order
	At        time.Time     `json:"at,omitzero"`
	Took      time.Duration `json:"took,omitempty"`
	Error     string        `json:"error,omitempty"`
}

// ServePeer is a peer in a process of its own: it takes orders from one stream and tells
// what happens on the other, until the first one ends. Its packets are delayed as those of a
// simulation with the same seed.
func ServePeer(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	orders := json.NewDecoder(in)
	var begin start
	if err := orders.Decode(&begin); err != nil {
		return err
	}
	l := links.Internet(begin.Seed)
	if begin.Links == "uniform" {
		l = links.Uniform(begin.Seed)
	}
	e, err := p2p.Open(ctx, p2p.Config{
		Home: begin.Home, Version: "0.1.0", Bootstrap: begin.Bootstrap, Listen: delay.Listen(begin.Number),
		Options: []libp2p.Option{delay.Option(begin.Number, l.Delay), libp2p.ResourceManager(&network.NullResourceManager{})},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		err = errors.Join(err, e.Close())
	}()
	status, err := e.Status(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	tell := func(n news) error {
		mu.Lock()
		defer mu.Unlock()
		return encoder.Encode(n)
	}
	running.Go(func() {
		_ = e.Watch(ctx, shared.WatchQuery{}, func(event shared.Event) error { // until cancel
			switch event.Kind {
			case shared.EventRelease:
				return tell(news{Heard: event.Package.Name, At: time.Now()})
			case shared.EventPeerJoined, shared.EventPeerLeft:
				status, err := e.Status(ctx)
				if err != nil {
					return err
				}
				return tell(news{Connected: status.ConnectedPeers})
			}
			return nil
		})
	})
	if err := tell(news{Addresses: status.ListenAddresses}); err != nil {
		return err
	}
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		began, err := time.Now(), o.execute(ctx, e, begin.Home)
		n := news{Done: o.Publish + o.Install, Began: began, Took: time.Since(began)}
		if err != nil {
			n.Error = err.Error()
		}
		if err := tell(n); err != nil {
			return err
		}
	}
}

func (o order) execute(ctx context.Context, e *p2p.Engine, home string) error {
	if o.Publish != "" {
		_, err := e.Publish(ctx, shared.PublishRequest{}, tree(o.Publish, crossCheckBytes), nil)
		return err
	}
	_, err := e.Install(ctx, shared.InstallRequest{Packages: []shared.Ref{{Name: o.Install}}, Root: filepath.Join(home, "installed"), Trust: true}, nil)
	return err
}

// crossCheckBytes is the size of a package there.
const crossCheckBytes = 30 << 10

// process is a peer in a process of its own.
type process struct {
	orders  *json.Encoder
	started chan []string

	mu        sync.Mutex // guards the fields below
	connected int
	heard     map[string]time.Time
	done      map[string]news
}

// process starts one, which ends with the run.
func (r *Run) process(begin start) *process {
	self, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.CommandContext(r.Context(), self)
	cmd.Env = append(os.Environ(), PeerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	cmd.Cancel = in.Close // which asks it to end
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	p := &process{orders: json.NewEncoder(in), started: make(chan []string, 1), heard: map[string]time.Time{}, done: map[string]news{}}
	var listening sync.WaitGroup
	listening.Go(func() { p.listen(out) })
	r.Cleanup(func() {
		_ = in.Close()
		listening.Wait()
		_ = cmd.Wait() // the run's context, which has just ended, is its error
	})
	if err := p.orders.Encode(begin); err != nil {
		r.Fatal(err)
	}
	return p
}

// listen takes what a peer tells, until it ends.
func (p *process) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n news
		if json.Unmarshal(lines.Bytes(), &n) != nil {
			continue // what go test prints
		}
		p.mu.Lock()
		switch {
		case n.Addresses != nil:
			p.started <- n.Addresses
		case n.Heard != "":
			p.heard[n.Heard] = n.At
		case n.Done != "":
			p.done[n.Done] = n
		default:
			p.connected = n.Connected
		}
		p.mu.Unlock()
	}
}

// order gives an order and waits until it is done.
func (r *Run) order(p *process, o order) (result news) {
	if err := p.orders.Encode(o); err != nil {
		r.Fatal(err)
	}
	r.await("an order", time.Millisecond, func() (done bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		result, done = p.done[o.Publish+o.Install]
		return done
	})
	if result.Error != "" {
		r.Fatalf("%+v: %s", o, result.Error)
	}
	return result
}

// crossCheckRounds is how many packages are published, and installed elsewhere.
const crossCheckRounds = 20

// simulated measures in virtual time what [processes] measures in real time.
func simulated(r *Run) {
	random := r.random()
	n := r.network()
	n.grow(r.Scenario.Peers, nil)
	n.connected()
	<-time.After(quiet)
	heard := n.watch()
	for r.Loop() {
		for round := range crossCheckRounds {
			name, sender, receiver := fmt.Sprint("checked-", round), random.IntN(len(n.engines)), random.IntN(len(n.engines)-1)
			began := time.Now()
			r.publishOf(n.engines[sender], name, crossCheckBytes)
			r.await("everybody to hear of "+name, time.Second, func() bool { return len(heard.of(name)) == len(n.engines) })
			for i, at := range heard.of(name) {
				if i != sender {
					r.Took("release", at.Sub(began))
				}
			}
			receiver = (sender + 1 + receiver) % len(n.engines)
			began = time.Now()
			if _, err := n.engines[receiver].Install(r.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: name}}, Root: r.TempDir(), Trust: true}, nil); err != nil {
				r.Fatal(err)
			}
			r.Took("install", time.Since(began))
		}
	}
}

// quiet is how long a network is left alone before it is compared.
const quiet = 10 * time.Second

// processes measures peers that are processes of this machine and delay their packets.
func processes(r *Run) {
	random, graph := r.random(), r.random() // as in the simulation: the same peers know each other, and publish
	dir, err := os.MkdirTemp("", "gb")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			r.Error(err)
		}
	})
	var peers []*process
	var addresses [][]string
	for i := range r.Scenario.Peers {
		begin := start{Home: filepath.Join(dir, fmt.Sprint(i)), Number: i, Seed: r.Seed, Links: r.Links.Name}
		for _, known := range acquaint(graph, i) {
			begin.Bootstrap = append(begin.Bootstrap, addresses[known]...)
		}
		p := r.process(begin)
		select {
		case a := <-p.started:
			peers, addresses = append(peers, p), append(addresses, a)
		case <-time.After(time.Minute):
			r.Fatalf("peer %d has not started", i)
		}
	}
	for i, p := range peers {
		r.await(fmt.Sprint("connections of peer ", i), 10*time.Millisecond, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.connected >= min(acquaintances, len(peers)-1)
		})
	}
	<-time.After(quiet)
	for r.Loop() {
		for round := range crossCheckRounds {
			name, sender := fmt.Sprint("checked-", round), random.IntN(len(peers))
			published := r.order(peers[sender], order{Publish: name})
			for i, p := range peers {
				if i == sender {
					continue
				}
				r.await(fmt.Sprintf("peer %d to hear of %s", i, name), time.Millisecond, func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					at, ok := p.heard[name]
					if ok {
						r.Took("release", at.Sub(published.Began))
					}
					return ok
				})
			}
			receiver := peers[(sender+1+random.IntN(len(peers)-1))%len(peers)]
			r.Took("install", r.order(receiver, order{Install: name}).Took)
		}
	}
}
