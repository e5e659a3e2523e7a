// Command ggen-engine-marketplace is the marketplace engine: a peer in a process
// of its own, which the ggen host starts, finds again and calls over gRPC. It
// wires package p2p to the wire; what it can do is there, what it says is in
// package shared.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared/launch"
	"ggen.dev/marketplace/shared/rpc"
)

// version is set by the build.
var version = "0.1.0"

const usage = `This is the marketplace engine of ggen. You do not start it yourself:
the command ` + "`ggen marketplace`" + ` does.

  serve      be a peer and answer a ggen host (flags: serve -h)
  serve -debug
             the same in this terminal, for example under a debugger; it prints
             what to set so that any ggen command attaches to it
  selftest   make every call of the contract in a home of its own, and print how
             each went
  describe   print name, version, protocols and capabilities as JSON
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run chooses what this process is; its result is the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cookie := rpc.Handshake()
	switch {
	case len(args) == 0 && os.Getenv(cookie.MagicCookieKey) == cookie.MagicCookieValue:
		return serveOneCommand(ctx, stderr)
	case len(args) > 0 && args[0] == "serve":
		return serveWarm(ctx, args[1:], stdout, stderr)
	case len(args) == 1 && args[0] == "describe":
		return describe(stdout, stderr)
	case len(args) == 1 && args[0] == "selftest":
		return selftest(ctx, stdout, stderr)
	}
	if len(args) == 1 && slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		_, _ = fmt.Fprint(stdout, usage)
		return 0
	}
	_, _ = fmt.Fprint(stderr, usage)
	return 2
}

// describe prints what this engine is, without touching network or disk.
func describe(stdout, stderr io.Writer) int {
	err := json.NewEncoder(stdout).Encode(map[string]any{
		"name": "marketplace", "version": version, "protocols": rpc.Protocols(), "capabilities": p2p.Capabilities(),
	})
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// list is a flag that may be given several times.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// parseSpec reads the flags of serve.
func parseSpec(args []string, stderr io.Writer) (spec launch.Spec, debugging bool, err error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(stderr) // prints the mistake, or what -h asks for
	flags.StringVar(&spec.Home, "home", "", "folder for keys, catalogue and content (absolute)")
	flags.StringVar(&spec.Run, "run", "", "folder for lock and socket (default HOME/run)")
	flags.Var((*list)(&spec.Settings.Listen), "listen", "multiaddr to listen on (repeatable)")
	flags.Var((*list)(&spec.Settings.Bootstrap), "bootstrap", "multiaddr of a peer to begin with (repeatable)")
	flags.BoolVar(&spec.Settings.DHTServer, "dht-server", false, "serve the DHT even when reachability is unknown")
	flags.StringVar(&spec.Settings.Network, "network", "", "name of the network")
	flags.StringVar(&spec.Settings.NetworkKey, "network-key", "", "file of the pre-shared key of a private network (absolute)")
	flags.Var((*list)(&spec.Settings.AllowPeers), "allow-peer", "ID of a peer that may connect; with one, nobody else may (repeatable)")
	flags.IntVar(&spec.Settings.LookupFanout, "lookup-fanout", 0, "peers that a lookup asks at first; 0: 5")
	flags.IntVar(&spec.Settings.LookupConcurrency, "lookup-concurrency", 0, "peers that a lookup asks at most at once; 0: 10")
	flags.Int64Var(&spec.Settings.UploadLimit, "upload-limit", 0, "bytes a second to send of packages; 0: no limit")
	flags.Func("cache", "bounds of the cache, as JSON; 0 in each: the default", func(text string) (err error) {
		spec.Settings.Cache, err = launch.ParseCache(text)
		return err
	})
	flags.StringVar(&spec.Settings.MetricsAddr, "metrics-addr", "", "loopback host:port at which to serve metrics; empty: nowhere")
	flags.Func("location", "LATITUDE,LONGITUDE,REGION of this machine in whole degrees, for every peer to know", func(text string) error {
		l, err := launch.ParseLocation(text)
		spec.Settings.Location = &l
		return err
	})
	flags.BoolVar(&spec.Settings.Light, "light", false, "keep no catalogue, ask other peers")
	flags.BoolVar(&spec.Settings.SuperPeer, "super-peer", false, "answer for light peers, and say so")
	flags.BoolVar(&spec.Settings.NoMDNS, "no-mdns", false, "do not look for peers in the local network")
	flags.DurationVar(&spec.Settings.IdleStop, "idle", launch.DefaultIdleStop, "stop after this long without use")
	flags.Int64Var(&spec.Settings.Memory, "memory", 0, "bytes of memory that the process may use; 0: no limit")
	flags.DurationVar(&spec.LockWait, "lock-wait", launch.DefaultLockWait, "how long to wait for an engine that is shutting down")
	flags.BoolVar(&spec.Stay, "stay", false, "run until stopped")
	flags.BoolVar(&debugging, "debug", false, "run in this terminal until Ctrl-C, and print how ggen attaches")
	if err := flags.Parse(args); err != nil {
		return spec, false, err
	}
	if debugging {
		spec.Stay = true
		if spec.Home == "" {
			spec.Home = defaultHome()
		}
		if addresses := os.Getenv("GGEN_P2P_LISTEN"); addresses != "" && spec.Settings.Listen == nil {
			spec.Settings.Listen = strings.Split(addresses, ",")
		}
	}
	if spec.Home == "" {
		return spec, false, errors.New("serve: -home is missing: it is the folder for keys, catalogue and content")
	}
	if !filepath.IsAbs(spec.Home) {
		return spec, false, fmt.Errorf("serve: -home %q is not an absolute folder", spec.Home)
	}
	if spec.Settings.Memory != 0 && spec.Settings.Memory < launch.MinMemory {
		return spec, false, fmt.Errorf("serve: -memory %d is below %d, which an engine needs", spec.Settings.Memory, int64(launch.MinMemory))
	}
	if spec.Run == "" {
		spec.Run = filepath.Join(spec.Home, "run")
	}
	return spec, debugging, os.MkdirAll(spec.Run, 0o700)
}

// drainTime is how long running calls may go on after a signal.
const drainTime = 10 * time.Second
