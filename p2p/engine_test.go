package p2p_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

func TestMain(m *testing.M) {
	if home := os.Getenv(killedHome); home != "" {
		if err := publishAndWait(home); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m,
		// libraries that keep a goroutine for the life of the process
		goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p-pubsub/timecache.background"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

// open starts an engine on loopback that ends with the test.
func open(t *testing.T, home string, bootstrap ...string) *p2p.Engine {
	t.Helper()
	e, err := p2p.Open(t.Context(), p2p.Config{
		Home: home, Bootstrap: bootstrap, Version: "0.1.0",
		Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
	})
	if err != nil {
		t.Fatalf("open engine: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
	})
	return e
}

func address(t *testing.T, e *p2p.Engine) string {
	t.Helper()
	status, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.ListenAddresses[0]
}

// files makes a tar stream of name, content pairs.
func files(t *testing.T, pairs ...string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func manifest(name, version string, deps ...string) string {
	quoted := make([]string, len(deps))
	for i, d := range deps {
		quoted[i] = fmt.Sprintf("%q", d)
	}
	return fmt.Sprintf("[package]\nname = %q\nversion = %q\ndescription = \"test package %s\"\ndependencies = [%s]\n", name, version, name, strings.Join(quoted, ", "))
}

func publish(t *testing.T, e *p2p.Engine, name, version string, deps ...string) shared.PublishReceipt {
	t.Helper()
	receipt, err := e.Publish(t.Context(), shared.PublishRequest{}, files(t, "package.toml", manifest(name, version, deps...), "templates/"+name+".tmpl", "content of "+name+" "+version), nil)
	if err != nil {
		t.Fatalf("publish %s: %v", name, err)
	}
	return receipt
}

// eventually polls until ok says yes; a minute is patience, not a measurement.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

func knows(t *testing.T, e *p2p.Engine, names ...string) {
	t.Helper()
	for _, name := range names {
		eventually(t, "it knows "+name, func() bool {
			_, err := e.Describe(t.Context(), shared.Ref{Name: name})
			return err == nil
		})
	}
}

func connected(t *testing.T, e *p2p.Engine, peers int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d peers are connected", peers), func() bool {
		status, err := e.Status(t.Context())
		return err == nil && status.ConnectedPeers >= peers
	})
}

func TestThreePeers(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "base", "1.0.0")
	b := open(t, t.TempDir(), address(t, a))
	c := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	connected(t, c, 1)
	publish(t, a, "middle", "1.1.0", "base@^1")
	publish(t, a, "top", "2.0.0", "middle")

	t.Run("who joined later knows what was published before", func(t *testing.T) { knows(t, b, "base") })
	t.Run("who was there hears of new releases", func(t *testing.T) { knows(t, b, "middle", "top") })

	root := t.TempDir()
	t.Run("install brings dependencies, in order, whole", func(t *testing.T) {
		receipt, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: root, Trust: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range receipt.Packages {
			names = append(names, p.Name)
			if !p.FirstUse || p.Fetched == 0 {
				t.Errorf("%s: first use %v, fetched %d", p.Name, p.FirstUse, p.Fetched)
			}
		}
		if got := strings.Join(names, " "); got != "base middle top" {
			t.Errorf("installed %q", got)
		}
		data, err := os.ReadFile(filepath.Join(root, "top", "templates", "top.tmpl"))
		if err != nil || string(data) != "content of top 2.0.0" {
			t.Errorf("content %q, %v", data, err)
		}
	})
	t.Run("installing again changes nothing", func(t *testing.T) {
		receipt, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: root}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range receipt.Packages {
			if !p.Unchanged || p.FirstUse {
				t.Errorf("%s: unchanged %v, first use %v", p.Name, p.Unchanged, p.FirstUse)
			}
		}
	})
	t.Run("files that somebody changed are not overwritten", func(t *testing.T) {
		name := filepath.Join(root, "base", "package.toml")
		if err := os.WriteFile(name, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		req := shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: root}
		if _, err := b.Install(t.Context(), req, nil); !errors.Is(err, shared.ReasonModified) {
			t.Fatalf("got %v", err)
		}
		req.Force = true
		if _, err := b.Install(t.Context(), req, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the content outlives its publisher", func(t *testing.T) {
		knows(t, c, "top")
		eventually(t, "C and B know each other", func() bool {
			list, err := c.Peers(t.Context(), shared.PeerQuery{ConnectedOnly: true})
			return err == nil && list.Total >= 2
		})
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		receipt, err := c.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: other, Trust: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var locked []shared.LockedPackage
		for _, p := range receipt.Packages {
			locked = append(locked, p.LockedPackage)
		}
		report, err := c.Verify(t.Context(), shared.VerifyRequest{Root: other, Packages: locked})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.Packages {
			if !r.OK {
				t.Errorf("%s does not verify: %+v", r.Name, r)
			}
		}
	})
}

func TestRestartKeepsIdentityCatalogueAndContent(t *testing.T) {
	home := t.TempDir()
	e := open(t, home)
	receipt := publish(t, e, "kept", "1.0.0")
	before, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, home)
	after, err := e.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.PeerID != after.PeerID || before.Publisher != after.Publisher || after.HeldPackages != 1 {
		t.Fatalf("before %+v\nafter %+v", before, after)
	}
	details, err := e.Describe(t.Context(), shared.Ref{Name: "kept"})
	if err != nil || details.Digest != receipt.Digest || !details.Held {
		t.Fatalf("%+v, %v", details, err)
	}
	if _, err := p2p.Open(t.Context(), p2p.Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}}); !errors.Is(err, shared.ReasonStorage) {
		t.Fatalf("a second engine on one home: %v", err)
	}
}

func TestPublishRefusesAndChangesNothing(t *testing.T) {
	e := open(t, t.TempDir())
	publish(t, e, "taken", "1.0.0")
	link := func() io.Reader {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		_ = w.WriteHeader(&tar.Header{Name: "package.toml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
		_ = w.Close()
		return &buf
	}
	for _, tc := range []struct {
		name   string
		tree   io.Reader
		reason shared.Reason
		says   string
	}{
		{"no manifest", files(t, "README.md", "x"), shared.ReasonInvalidManifest, "no manifest"},
		{"foreign manifest", files(t, "package.json", "{}"), shared.ReasonInvalidManifest, "package.json"},
		{"two manifests", files(t, "package.toml", manifest("a", "1.0.0"), "pack.toml", "[pack]"), shared.ReasonInvalidManifest, "two manifests"},
		{"broken TOML", files(t, "package.toml", "[package]\nname = \"a\"\nversion = = 1\n"), shared.ReasonInvalidManifest, "package.toml:3:"},
		{"no name", files(t, "package.toml", "[package]\nversion = \"1.0.0\"\n"), shared.ReasonInvalidManifest, "no name"},
		{"no version", files(t, "package.toml", "[package]\nname = \"a\"\n"), shared.ReasonInvalidManifest, "no version"},
		{"bad version", files(t, "package.toml", manifest("a", "1.0")), shared.ReasonInvalidManifest, "1.0"},
		{"bad name", files(t, "package.toml", manifest("A B", "1.0.0")), shared.ReasonInvalidManifest, "not allowed"},
		{"symbolic link", link(), shared.ReasonInvalidPackage, "symbolic link"},
		{"path that leaves the folder", files(t, "package.toml", manifest("a", "1.0.0"), "../evil", "x"), shared.ReasonInvalidPackage, ".."},
		{"absolute path", files(t, "/etc/evil", "x"), shared.ReasonInvalidPackage, "relative"},
		{"version exists with other content", files(t, "package.toml", manifest("taken", "1.0.0"), "more", "x"), shared.ReasonVersionExists, "published before"},
		{"upload breaks off", io.MultiReader(io.LimitReader(files(t, "package.toml", manifest("a", "1.0.0")), 700), broken{}), shared.ReasonCanceled, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := e.Publish(t.Context(), shared.PublishRequest{}, tc.tree, nil)
			if !errors.Is(err, tc.reason) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %s with %q", err, tc.reason, tc.says)
			}
			result, err := e.Search(t.Context(), shared.SearchQuery{})
			if err != nil || result.Total != 1 {
				t.Fatalf("the catalogue changed: %+v, %v", result, err)
			}
		})
	}
}

// broken is an upload whose sender went away.
type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, shared.NewError(shared.ReasonCanceled, "the host hung up")
}

func TestPublishAgain(t *testing.T) {
	e := open(t, t.TempDir())
	tree := func() io.Reader { return files(t, "package.toml", manifest("once", "1.0.0")) }
	first, err := e.Publish(t.Context(), shared.PublishRequest{RequestID: "r1"}, tree(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("with the same request", func(t *testing.T) {
		again, err := e.Publish(t.Context(), shared.PublishRequest{RequestID: "r1"}, tree(), nil)
		if err != nil || !reflect.DeepEqual(again, first) || again.Unchanged {
			t.Fatalf("%+v, %v; first %+v", again, err, first)
		}
	})
	t.Run("with the same request and other content", func(t *testing.T) {
		_, err := e.Publish(t.Context(), shared.PublishRequest{RequestID: "r1"}, files(t, "package.toml", manifest("other", "1.0.0")), nil)
		if !errors.Is(err, shared.ReasonInvalidArgument) || !strings.Contains(err.Error(), "r1") || shared.AsError(err).Hint == "" {
			t.Fatalf("got %v", err)
		}
		if _, err := e.Describe(t.Context(), shared.Ref{Name: "other"}); err == nil {
			t.Fatal("it was published")
		}
	})
	t.Run("with the same content", func(t *testing.T) {
		again, err := e.Publish(t.Context(), shared.PublishRequest{RequestID: "r2"}, tree(), nil)
		if err != nil || !again.Unchanged || again.LogSize != 1 {
			t.Fatalf("%+v, %v", again, err)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		dry, err := e.Publish(t.Context(), shared.PublishRequest{DryRun: true}, files(t, "package.toml", manifest("dry", "1.0.0")), nil)
		if err != nil || !dry.DryRun || dry.Digest == "" || len(dry.Files) != 1 {
			t.Fatalf("%+v, %v", dry, err)
		}
		if _, err := e.Describe(t.Context(), shared.Ref{Name: "dry"}); err == nil {
			t.Fatal("a dry run published")
		}
	})
}

func TestInstallTellsFailuresApart(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "gone", "1.0.0")
	publish(t, a, "needy", "1.0.0", "gone@^2")
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	knows(t, b, "gone", "needy")
	install := func(e *p2p.Engine, ref string, offline bool) error {
		parsed, err := shared.ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		_, err = e.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{parsed}, Root: root, Trust: true, Offline: offline}, nil)
		if left, readErr := os.ReadDir(root); readErr != nil || len(left) > 0 {
			t.Errorf("a failed install left %v, %v", left, readErr)
		}
		return err
	}
	for _, tc := range []struct {
		name, ref string
		offline   bool
		want      shared.Reason
	}{
		{"nobody knows it", "nonsense", false, shared.ReasonNotFound},
		{"no version fits", "gone@^3", false, shared.ReasonUnsatisfiable},
		{"a dependency does not fit", "needy", false, shared.ReasonUnsatisfiable},
		{"a range that is none", "gone@not-a-range", false, shared.ReasonInvalidArgument},
		{"offline", "gone", true, shared.ReasonOffline},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := install(b, tc.ref, tc.offline); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
		})
	}
	t.Run("known, but nobody online has it", func(t *testing.T) {
		c := open(t, t.TempDir(), address(t, b))
		connected(t, c, 1)
		knows(t, c, "gone")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		connected(t, c, 1)
		if err := install(c, "gone", false); !errors.Is(err, shared.ReasonUnavailable) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no peers", func(t *testing.T) {
		alone := open(t, t.TempDir())
		if err := install(alone, "gone", false); !errors.Is(err, shared.ReasonNoPeers) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestAnotherPublisherOfAPinnedNameIsRefused(t *testing.T) {
	a := open(t, t.TempDir())
	publish(t, a, "tool", "1.0.0")
	b := open(t, t.TempDir(), address(t, a))
	knows(t, b, "tool")
	root := t.TempDir()
	first, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: root, Trust: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mallory := open(t, t.TempDir(), address(t, a))
	evil := publish(t, mallory, "tool", "9.0.0")
	eventually(t, "B knows both", func() bool {
		details, err := b.Search(t.Context(), shared.SearchQuery{Text: "tool"})
		return err == nil && details.Total == 2
	})
	t.Run("the bare name still means the pinned one", func(t *testing.T) {
		receipt, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: root}, nil)
		if err != nil || receipt.Packages[0].Publisher != first.Packages[0].Publisher {
			t.Fatalf("%+v, %v", receipt, err)
		}
	})
	t.Run("naming the other is refused with both fingerprints", func(t *testing.T) {
		_, err := b.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool", Publisher: evil.Publisher}}, Root: root, Trust: true}, nil)
		if !errors.Is(err, shared.ReasonUntrusted) {
			t.Fatalf("got %v", err)
		}
		typed := shared.AsError(err)
		if typed.Metadata["offered"] != string(evil.Publisher) || typed.Metadata["pinned"] != string(first.Packages[0].Publisher) {
			t.Fatalf("metadata %v", typed.Metadata)
		}
	})
	t.Run("a newcomer has to choose", func(t *testing.T) {
		c := open(t, t.TempDir(), address(t, b))
		eventually(t, "C knows both", func() bool {
			result, err := c.Search(t.Context(), shared.SearchQuery{Text: "tool"})
			return err == nil && result.Total == 2
		})
		_, err := c.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "tool"}}, Root: t.TempDir(), Trust: true}, nil)
		if !errors.Is(err, shared.ReasonAmbiguous) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestWatchDeliversReleases(t *testing.T) {
	a := open(t, t.TempDir())
	b := open(t, t.TempDir(), address(t, a))
	connected(t, b, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{shared.EventRelease}}, func(ev shared.Event) error {
			seen <- ev.Package.Name
			return nil
		})
	}()
	publish(t, a, "fresh", "1.0.0")
	select {
	case name := <-seen:
		if name != "fresh" {
			t.Fatalf("saw %q", name)
		}
	case <-ctx.Done():
		t.Fatal("no event")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("watch ended with %v", err)
	}
}
