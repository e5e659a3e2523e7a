package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/shared"
)

// selfTestTime bounds a self test; it takes a second.
const selfTestTime = time.Minute

// selftest makes every call of the contract once, on an engine in this process
// with a home of its own and without peers, and prints how each went. It tells
// whether this binary works on this machine; what an engine has to keep in full is
// tested by package shared/conformance.
func selftest(ctx context.Context, stdout, stderr io.Writer) (code int) {
	ctx, cancel := context.WithTimeout(ctx, selfTestTime)
	defer cancel()
	home, err := os.MkdirTemp("", "ggen-selftest")
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(home) }()
	engine, err := p2p.Open(ctx, p2p.Config{
		Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Version: version, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "the engine does not open: %v\n", err)
		return 1
	}
	trial := &trial{m: engine, root: filepath.Join(home, "project")}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "call\tresult\ttime\twhat")
	for _, step := range trial.steps() {
		begun := time.Now()
		what, err := step.run(ctx)
		result := "ok"
		if err != nil {
			result, what, code = "FAILED", err.Error(), 1
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", step.call, result, time.Since(begun).Round(10*time.Microsecond), what)
	}
	if err := engine.Close(); err != nil {
		_, _ = fmt.Fprintf(table, "close\tFAILED\t\t%v\n", err)
		code = 1
	}
	if err := table.Flush(); err != nil {
		return 1
	}
	return code
}

// trial is one pass through the contract.
type trial struct {
	m         shared.Marketplace
	root      string
	published shared.PublishReceipt
	installed shared.InstallReceipt
	signed    []byte // a trust catalogue
}

type step struct {
	call string // a method of shared.Marketplace
	run  func(context.Context) (what string, err error)
}

func (t *trial) steps() []step {
	return []step{
		{"Info", t.info},
		{"Publish", t.publish},
		{"Search", t.search},
		{"Describe", t.describe},
		{"Install", t.install},
		{"Verify", t.verify},
		{"PinContent", t.pinContent},
		{"CacheStats", t.cacheStats},
		{"VerifyCache", t.verifyCache},
		{"CleanCache", t.cleanCache},
		{"UnpinContent", t.unpinContent},
		{"Declare", t.declare},
		{"Pins", t.pins},
		{"SetPin", t.setPin},
		{"Explain", t.explain},
		{"SignTrustCatalogue", t.signCatalogue},
		{"AddTrustCatalogue", t.addCatalogue},
		{"TrustCatalogues", t.catalogues},
		{"RemoveTrustCatalogue", t.removeCatalogue},
		{"ForkProof", t.forkProof},
		{"CheckForkProof", t.checkForkProof},
		{"Export", t.export},
		{"Import", t.importBundle},
		{"Prove", t.prove},
		{"PublisherKeys", t.keys},
		{"MakeKey", t.makeKey},
		{"ChangeKeys", t.rotate},
		{"ExportKey", t.exportKey},
		{"Status", t.status},
		{"Peers", t.peers},
		{"Bootstrap", t.bootstrap},
		{"Watch", t.watch},
	}
}

const trialName = "selftest"

// tree is a package of two files as a tar stream.
func tree(version string) (io.Reader, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range map[string]string{
		"package.toml": fmt.Sprintf("[package]\nname = %q\nversion = %q\ndescription = \"a trial\"\n", trialName, version),
		"hello.tmpl":   "hello\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return nil, err
		}
	}
	return &buf, w.Close()
}

func (t *trial) put(ctx context.Context, version string) (shared.PublishReceipt, error) {
	files, err := tree(version)
	if err != nil {
		return shared.PublishReceipt{}, err
	}
	return t.m.Publish(ctx, shared.PublishRequest{RequestID: trialName + version}, files, nil)
}

func (t *trial) info(ctx context.Context) (string, error) {
	info, err := t.m.Info(ctx)
	return "version " + info.Version, err
}

func (t *trial) publish(ctx context.Context) (what string, err error) {
	t.published, err = t.put(ctx, "1.0.0")
	return fmt.Sprintf("%d files, %d bytes", len(t.published.Files), t.published.Size), err
}

func (t *trial) search(ctx context.Context) (string, error) {
	found, err := t.m.Search(ctx, shared.SearchQuery{Text: trialName})
	if err == nil && found.Total != 1 {
		err = fmt.Errorf("found %d packages, and one was published", found.Total)
	}
	return fmt.Sprintf("%d found", found.Total), err
}

func (t *trial) describe(ctx context.Context) (string, error) {
	details, err := t.m.Describe(ctx, shared.Ref{Name: trialName})
	if err == nil && details.Digest != t.published.Digest {
		err = fmt.Errorf("it is %s, and %s was published", details.Digest, t.published.Digest)
	}
	return string(details.Digest), err
}

func (t *trial) install(ctx context.Context) (what string, err error) {
	t.installed, err = t.m.Install(ctx, shared.InstallRequest{Packages: []shared.Ref{{Name: trialName}}, Root: t.root, Trust: true}, nil)
	return fmt.Sprintf("%d packages", len(t.installed.Packages)), err
}

func (t *trial) verify(ctx context.Context) (string, error) {
	var locked []shared.LockedPackage
	for _, p := range t.installed.Packages {
		locked = append(locked, p.LockedPackage)
	}
	report, err := t.m.Verify(ctx, shared.VerifyRequest{Root: t.root, Packages: locked})
	for _, result := range report.Packages {
		if !result.OK {
			err = errors.Join(err, fmt.Errorf("%s: %s", result.Name, result.Problem))
		}
	}
	if err == nil && len(report.Packages) != 1 {
		err = fmt.Errorf("%d packages were compared, and one is installed", len(report.Packages))
	}
	return "as installed", err
}

func (t *trial) declare(ctx context.Context) (string, error) {
	receipt, err := t.m.Declare(ctx, shared.Statement{Kind: shared.StatementYank, Package: trialName, Version: "1.0.0"})
	return fmt.Sprintf("yanked, in a log of %d", receipt.LogSize), err
}

func (t *trial) pins(ctx context.Context) (string, error) {
	pins, err := t.m.Pins(ctx)
	if err == nil && len(pins) != 1 {
		err = fmt.Errorf("%d names are pinned, and one was used", len(pins))
	}
	return fmt.Sprintf("%d pinned", len(pins)), err
}

func (t *trial) setPin(ctx context.Context) (string, error) {
	_, err := t.m.SetPin(ctx, trialName, t.published.Publisher)
	return "pinned again", err
}

func (t *trial) explain(ctx context.Context) (string, error) {
	report, err := t.m.Explain(ctx, trialName)
	if err == nil && (report.Rule != shared.RulePin || len(report.Candidates) != 1) {
		err = fmt.Errorf("it is explained as %+v", report)
	}
	return "by rule " + string(report.Rule), err
}

func (t *trial) signCatalogue(ctx context.Context) (what string, err error) {
	t.signed, err = t.m.SignTrustCatalogue(ctx, shared.TrustCatalogue{
		Title: trialName, Serial: 1, Names: []shared.CatalogueName{{Name: trialName, Publisher: t.published.Publisher}},
	})
	return fmt.Sprintf("%d bytes", len(t.signed)), err
}

func (t *trial) addCatalogue(ctx context.Context) (string, error) {
	added, err := t.m.AddTrustCatalogue(ctx, t.signed)
	return fmt.Sprintf("issue %d", added.Serial), err
}

func (t *trial) catalogues(ctx context.Context) (string, error) {
	list, err := t.m.TrustCatalogues(ctx)
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("%d catalogues are followed, and one was added", len(list))
	}
	return fmt.Sprintf("%d followed", len(list)), err
}

func (t *trial) removeCatalogue(ctx context.Context) (string, error) {
	_, err := t.m.RemoveTrustCatalogue(ctx, t.published.Publisher, trialName)
	return "removed", err
}

func (t *trial) forkProof(ctx context.Context) (string, error) {
	_, err := t.m.ForkProof(ctx, t.published.Publisher)
	if errors.Is(err, shared.ReasonNotFound) {
		return "none, as it should be", nil
	}
	return "", errors.Join(errors.New("an honest publisher is convicted"), err)
}

func (t *trial) checkForkProof(ctx context.Context) (string, error) {
	_, err := t.m.CheckForkProof(ctx, []byte("{}"))
	if errors.Is(err, shared.ReasonIntegrity) || errors.Is(err, shared.ReasonInvalidArgument) {
		return "nothing proves nothing", nil
	}
	return "", errors.Join(errors.New("an empty proof is believed"), err)
}

// locked is what was installed, which has been yanked since.
func (t *trial) locked() (locked []shared.LockedPackage) {
	for _, pkg := range t.installed.Packages {
		locked = append(locked, pkg.LockedPackage)
	}
	return locked
}

func (t *trial) bundle() string { return filepath.Join(t.root, "trial.bundle") }

func (t *trial) export(ctx context.Context) (string, error) {
	receipt, err := t.m.Export(ctx, shared.ExportRequest{File: t.bundle(), Packages: []shared.Ref{{Name: trialName}}, Locked: t.locked(), Offline: true}, nil)
	return fmt.Sprintf("%d bytes", receipt.Bytes), err
}

func (t *trial) importBundle(ctx context.Context) (string, error) {
	receipt, err := t.m.Import(ctx, t.bundle(), nil)
	return fmt.Sprintf("%d packages", len(receipt.Packages)), err
}

func (t *trial) prove(ctx context.Context) (string, error) {
	proven, err := t.m.Prove(ctx, shared.Ref{Name: trialName}, "package.toml")
	return fmt.Sprintf("%d entries, %d root documents", proven.LogSize, len(proven.Roots)), err
}

func (t *trial) pinContent(ctx context.Context) (string, error) {
	receipt, err := t.m.PinContent(ctx, shared.PinRequest{Packages: []shared.Ref{{Name: trialName}}, Offline: true}, nil)
	return fmt.Sprintf("%d pinned", len(receipt.Packages)), err
}

func (t *trial) cacheStats(ctx context.Context) (string, error) {
	stats, err := t.m.CacheStats(ctx)
	return fmt.Sprintf("%d packages published, %d pins", stats.Published.Packages, len(stats.Pins)), err
}

func (t *trial) verifyCache(ctx context.Context) (string, error) {
	report, err := t.m.VerifyCache(ctx, nil)
	return fmt.Sprintf("%d files, %d damaged", report.Checked, len(report.Damaged)), err
}

func (t *trial) cleanCache(ctx context.Context) (string, error) {
	receipt, err := t.m.CleanCache(ctx, shared.CleanRequest{})
	return fmt.Sprintf("%d bytes", receipt.Bytes), err
}

func (t *trial) unpinContent(ctx context.Context) (string, error) {
	released, err := t.m.UnpinContent(ctx, shared.Ref{Name: trialName})
	return fmt.Sprintf("%d unpinned", len(released)), err
}

// passphrase is of keys that live as long as the trial.
const passphrase = "a selftest's passphrase" //nolint:gosec // guards nothing

func (t *trial) keys(ctx context.Context) (string, error) {
	keys, err := t.m.PublisherKeys(ctx)
	return fmt.Sprintf("root document %d", keys.Root), err
}

func (t *trial) makeKey(ctx context.Context) (string, error) {
	key, err := t.m.MakeKey(ctx, passphrase)
	return fmt.Sprintf("%d bytes", len(key.Sealed)), err
}

func (t *trial) rotate(ctx context.Context) (string, error) {
	receipt, err := t.m.ChangeKeys(ctx, shared.KeyChange{Action: shared.KeyRotate})
	return fmt.Sprintf("root document %d, %d entries", receipt.Keys.Root, receipt.Keys.LogSize), err
}

func (t *trial) exportKey(ctx context.Context) (string, error) {
	key, err := t.m.ExportKey(ctx, "", passphrase)
	return fmt.Sprintf("%d bytes", len(key.Sealed)), err
}

func (t *trial) status(ctx context.Context) (string, error) {
	status, err := t.m.Status(ctx)
	if err == nil && len(status.ListenAddresses) == 0 {
		err = errors.New("it listens nowhere")
	}
	return "peer " + status.PeerID, err
}

func (t *trial) peers(ctx context.Context) (string, error) {
	list, err := t.m.Peers(ctx, shared.PeerQuery{})
	return fmt.Sprintf("%d known", list.Total), err
}

func (t *trial) bootstrap(ctx context.Context) (string, error) {
	outcomes, err := t.m.Bootstrap(ctx, []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWBhMbLvQRgLBhyF9DQpxGEqKiMvvKb9tgUMQGkGTVeqDw"})
	if err == nil && (len(outcomes) != 1 || outcomes[0].Err == nil) {
		err = errors.New("a peer answers where none is")
	}
	return "nobody at an address where nobody is", err
}

func (t *trial) watch(ctx context.Context) (string, error) {
	watching, cancel := context.WithTimeout(ctx, selfTestTime/2)
	defer cancel()
	seen := errors.New("seen")
	delivered := make(chan error, 1)
	go func() {
		delivered <- t.m.Watch(watching, shared.WatchQuery{Kinds: []shared.EventKind{shared.EventRelease}}, func(shared.Event) error { return seen })
	}()
	// A watch tells of what comes after it began, so something has to come until
	// it has begun.
	for patch := 1; ; patch++ {
		if _, err := t.put(ctx, fmt.Sprintf("1.0.%d", patch)); err != nil {
			cancel()
			return "", errors.Join(err, <-delivered)
		}
		select {
		case err := <-delivered:
			if errors.Is(err, seen) {
				err = nil
			}
			return "a release was seen", err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
