// Package conformance tells whether an implementation of shared.Marketplace keeps
// the contract: the same values and the same errors, whether it runs in this
// process, behind gRPC, or in an engine's process. It is for authors of engines;
// our own tests run it on all three.
//
// It tests what every engine must do alone, without other peers.
package conformance

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ggen.dev/marketplace/shared"
)

// Open gives a fresh marketplace with an empty catalogue and no peers, which ends
// with the test.
type Open func(t *testing.T) shared.Marketplace

// patience bounds everything that a test waits for.
const patience = 30 * time.Second

// Run runs the whole suite; every case opens a marketplace of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(t *testing.T, m shared.Marketplace)
	}{
		{"info tells who it is", info},
		{"an empty catalogue finds nothing, and that is no error", emptySearch},
		{"a query that makes no sense is refused", badSearch},
		{"an unknown package is an error with a reason", unknownPackage},
		{"what was published is found", publishAndFind},
		{"publishing identical content again is a success that says so", publishAgain},
		{"a release never changes", publishOther},
		{"a request is executed once", requestOnce},
		{"why a name means somebody", explain},
		{"trust catalogues", trustCatalogues},
		{"proofs of forks", forkProofs},
		{"bundles", bundles},
		{"provenance", provenance},
		{"cache", cache},
		{"keys", keys},
		{"a dry run changes nothing", dryRun},
		{"a release that is yanked is not chosen, until that is undone", yank},
		{"a package that is deprecated says so, until that is undone", deprecate},
		{"a statement about what was never released is refused", badStatements},
		{"a name means the publisher that it is pinned to", pins},
		{"what must not be published is refused by name", refusals},
		{"a package that breaks off is not published", brokenUpload},
		{"a large package travels in pieces", largePackage},
		{"progress is told to the caller", progress},
		{"what is installed verifies, and what was changed does not", installAndVerify},
		{"an install that cannot be done leaves nothing", failedInstall},
		{"status and peers describe a lonely node", lonelyNode},
		{"bootstrap says what happened to each address", bootstrap},
		{"watch delivers a release, and ends with its context", watch},
		{"watch ends with the error of its consumer", watchConsumer},
		{"a call that is cancelled says so", cancelled},
		{"a deadline arrives", deadline},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// File is a file of a package under test.
type File struct {
	Name, Content string
	Link          string // makes it a symbolic link
}

// Tree makes the tar stream of a package.
func Tree(t *testing.T, files ...File) *bytes.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{Name: f.Name, Size: int64(len(f.Content)), Mode: 0o644, Typeflag: tar.TypeReg}
		if f.Link != "" {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(buf.Bytes())
}

// Manifest makes a package.toml.
func Manifest(name, version string, dependencies ...string) File {
	var quoted []string
	for _, d := range dependencies {
		quoted = append(quoted, fmt.Sprintf("%q", d))
	}
	return File{Name: "package.toml", Content: fmt.Sprintf(
		"[package]\nname = %q\nversion = %q\ndescription = \"a package about %s\"\ntags = [\"conformance\"]\ndependencies = [%s]\n",
		name, version, name, strings.Join(quoted, ", "))}
}

func publish(t *testing.T, m shared.Marketplace, req shared.PublishRequest, files ...File) shared.PublishReceipt {
	t.Helper()
	receipt, err := m.Publish(t.Context(), req, Tree(t, files...), nil)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return receipt
}

// want fails unless err has the reason and is the contract's own type.
func want(t *testing.T, err error, reason shared.Reason) *shared.Error {
	t.Helper()
	var typed *shared.Error
	if !errors.As(err, &typed) || !errors.Is(err, reason) {
		t.Fatalf("got %v (%T), want a *shared.Error with %s", err, err, reason)
	}
	if typed.Message == "" {
		t.Fatalf("the error with reason %s says nothing", reason)
	}
	return typed
}

func info(t *testing.T, m shared.Marketplace) {
	first, err := m.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != "marketplace" || first.Version == "" || len(first.Protocols) == 0 || first.InstanceID == "" || first.PID == 0 || first.StartedAt.IsZero() {
		t.Fatalf("incomplete: %+v", first)
	}
	if first.InstanceID != second.InstanceID || !first.StartedAt.Equal(second.StartedAt) {
		t.Fatalf("two answers of one engine differ: %+v, %+v", first, second)
	}
}

func emptySearch(t *testing.T, m shared.Marketplace) {
	for _, text := range []string{"", "anything", "日本語", "\x00\xff"} {
		result, err := m.Search(t.Context(), shared.SearchQuery{Text: text})
		if err != nil || result.Total != 0 || len(result.Packages) != 0 {
			t.Fatalf("search %q: %+v, %v", text, result, err)
		}
	}
}

func badSearch(t *testing.T, m shared.Marketplace) {
	for _, q := range []shared.SearchQuery{{Limit: -1}, {Limit: 1001}, {Offset: -1}, {Sort: "color"}, {MinReputation: -0.1}, {MinReputation: 1.1}, {MinReputation: math.NaN()}} {
		_, err := m.Search(t.Context(), q)
		want(t, err, shared.ReasonInvalidArgument)
	}
}

func unknownPackage(t *testing.T, m shared.Marketplace) {
	_, err := m.Describe(t.Context(), shared.Ref{Name: "nobody-has-this"})
	if !errors.Is(err, shared.ReasonNotFound) && !errors.Is(err, shared.ReasonNoPeers) {
		t.Fatalf("got %v, want %s or %s", err, shared.ReasonNotFound, shared.ReasonNoPeers)
	}
	var typed *shared.Error
	if !errors.As(err, &typed) || typed.Hint == "" {
		t.Fatalf("%v has no hint", err)
	}
}

func publishAndFind(t *testing.T, m shared.Marketplace) {
	receipt := publish(t, m, shared.PublishRequest{}, Manifest("found", "1.2.3", "other@^1"), File{Name: "templates/a.tmpl", Content: "{{a}}"})
	if receipt.Package != "found" || receipt.Version != "1.2.3" || !receipt.Publisher.Complete() || receipt.Size == 0 || receipt.LogSize != 1 || receipt.Unchanged || receipt.DryRun {
		t.Fatalf("receipt %+v", receipt)
	}
	if _, err := shared.ParseDigest(string(receipt.Digest)); err != nil {
		t.Fatal(err)
	}
	if len(receipt.Files) != 2 || receipt.Files[1].Path != "templates/a.tmpl" || receipt.Files[1].Size != 5 || receipt.Files[1].Digest != shared.DigestOf([]byte("{{a}}")) {
		t.Fatalf("files %+v", receipt.Files)
	}
	result, err := m.Search(t.Context(), shared.SearchQuery{Text: "about"})
	if err != nil || result.Total != 1 || result.Packages[0].Name != "found" || result.Packages[0].Publisher != receipt.Publisher || result.Packages[0].Score <= 0 {
		t.Fatalf("search: %+v, %v", result, err)
	}
	details, err := m.Describe(t.Context(), shared.Ref{Name: "found"})
	if err != nil {
		t.Fatal(err)
	}
	if details.Holders != -1 {
		t.Fatalf("about %d other peers hold what nobody was told of", details.Holders)
	}
	if none, err := m.Search(t.Context(), shared.SearchQuery{Text: "about", MinReputation: 0.1}); err != nil || none.Total != 0 || len(none.Packages) != 0 {
		t.Fatalf("search for what reputable peers hold: %+v, %v", none, err)
	}
	if details.Digest != receipt.Digest || !details.Held || details.FileCount != 2 || len(details.Versions) != 1 || details.PinnedTo != receipt.Publisher ||
		len(details.Dependencies) != 1 || details.Dependencies[0] != (shared.Dependency{Name: "other", Constraint: "^1"}) || details.PublishedAt.IsZero() {
		t.Fatalf("details %+v", details)
	}
}

func publishAgain(t *testing.T, m shared.Marketplace) {
	first := publish(t, m, shared.PublishRequest{}, Manifest("same", "1.0.0"))
	second := publish(t, m, shared.PublishRequest{}, Manifest("same", "1.0.0"))
	if !second.Unchanged || second.Digest != first.Digest || second.LogSize != first.LogSize {
		t.Fatalf("first %+v, second %+v", first, second)
	}
}

func publishOther(t *testing.T, m shared.Marketplace) {
	first := publish(t, m, shared.PublishRequest{}, Manifest("fixed", "1.0.0"))
	_, err := m.Publish(t.Context(), shared.PublishRequest{}, Tree(t, Manifest("fixed", "1.0.0"), File{Name: "more", Content: "x"}), nil)
	e := want(t, err, shared.ReasonVersionExists)
	if e.Hint == "" || e.Retryable || e.Metadata["published"] != string(first.Digest) {
		t.Fatalf("hint %q, retryable %v, metadata %v", e.Hint, e.Retryable, e.Metadata)
	}
}

func requestOnce(t *testing.T, m shared.Marketplace) {
	first := publish(t, m, shared.PublishRequest{RequestID: "once"}, Manifest("one", "1.0.0"))
	again := publish(t, m, shared.PublishRequest{RequestID: "once"}, Manifest("one", "1.0.0"))
	if again.Package != first.Package || again.Digest != first.Digest || again.LogSize != first.LogSize || again.Unchanged {
		t.Fatalf("first %+v, again %+v", first, again)
	}
	_, err := m.Publish(t.Context(), shared.PublishRequest{RequestID: "once"}, Tree(t, Manifest("two", "1.0.0")), nil)
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.Publish(t.Context(), shared.PublishRequest{RequestID: strings.Repeat("x", 65)}, Tree(t, Manifest("three", "1.0.0")), nil)
	want(t, err, shared.ReasonInvalidArgument)
}

func declare(t *testing.T, m shared.Marketplace, s shared.Statement) shared.DeclareReceipt {
	t.Helper()
	receipt, err := m.Declare(t.Context(), s)
	if err != nil {
		t.Fatalf("%s: %v", s.Kind, err)
	}
	if again, err := m.Declare(t.Context(), s); err != nil || !again.Unchanged || again.LogSize != receipt.LogSize {
		t.Fatalf("%s again: %+v, %v", s.Kind, again, err)
	}
	return receipt
}

func newest(t *testing.T, m shared.Marketplace, name string) shared.PackageDetails {
	t.Helper()
	details, err := m.Describe(t.Context(), shared.Ref{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	found, err := m.Search(t.Context(), shared.SearchQuery{Text: name})
	if err != nil || found.Total != 1 || found.Packages[0].Version != details.Version || found.Packages[0].Deprecated != details.Deprecated {
		t.Fatalf("search %+v, %v; info %+v", found, err, details)
	}
	return details
}

func yank(t *testing.T, m shared.Marketplace) {
	publish(t, m, shared.PublishRequest{}, Manifest("pulled", "1.0.0"))
	publish(t, m, shared.PublishRequest{}, Manifest("pulled", "1.1.0"))
	receipt := declare(t, m, shared.Statement{Kind: shared.StatementYank, Package: "pulled", Version: "1.1.0", Why: "it is broken"})
	if receipt.LogSize != 3 || receipt.Unchanged || !receipt.Publisher.Complete() {
		t.Fatalf("receipt %+v", receipt)
	}
	details := newest(t, m, "pulled")
	if details.Version != "1.0.0" || len(details.Versions) != 2 || !details.Versions[0].Yanked || details.Versions[1].Yanked {
		t.Fatalf("details %+v", details)
	}
	root := t.TempDir()
	_, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "pulled", Constraint: "=1.1.0"}}, Root: root, Trust: true}, nil)
	want(t, err, shared.ReasonUnsatisfiable)
	locked := shared.LockedPackage{Name: "pulled", Publisher: details.Publisher, Version: "1.1.0", Digest: details.Versions[0].Digest}
	installed, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "pulled"}}, Locked: []shared.LockedPackage{locked}, Root: root, Trust: true}, nil)
	if err != nil || installed.Packages[0].Version != "1.1.0" || len(installed.Diagnostics) == 0 {
		t.Fatalf("a locked install of what was yanked: %+v, %v", installed, err)
	}
	declare(t, m, shared.Statement{Kind: shared.StatementUnyank, Package: "pulled", Version: "1.1.0"})
	if details := newest(t, m, "pulled"); details.Version != "1.1.0" {
		t.Fatalf("details %+v", details)
	}
}

func deprecate(t *testing.T, m shared.Marketplace) {
	publish(t, m, shared.PublishRequest{}, Manifest("old", "1.0.0"))
	declare(t, m, shared.Statement{Kind: shared.StatementDeprecate, Package: "old", Successor: "young", Why: "not maintained"})
	details := newest(t, m, "old")
	if d := details.Deprecation; !details.Deprecated || d == nil || d.Successor != "young" || d.Why != "not maintained" || time.Since(d.Since) > patience {
		t.Fatalf("details %+v, %+v", details, details.Deprecation)
	}
	installed, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "old"}}, Root: t.TempDir(), Trust: true}, nil)
	if err != nil || len(installed.Diagnostics) == 0 {
		t.Fatalf("an install of what is deprecated: %+v, %v", installed, err)
	}
	declare(t, m, shared.Statement{Kind: shared.StatementUndeprecate, Package: "old"})
	if details := newest(t, m, "old"); details.Deprecated || details.Deprecation != nil {
		t.Fatalf("details %+v", details)
	}
}

func badStatements(t *testing.T, m shared.Marketplace) {
	publish(t, m, shared.PublishRequest{}, Manifest("known", "1.0.0"))
	for reason, statements := range map[shared.Reason][]shared.Statement{
		shared.ReasonNotFound: {
			{Kind: shared.StatementYank, Package: "unknown", Version: "1.0.0"},
			{Kind: shared.StatementYank, Package: "known", Version: "2.0.0"},
			{Kind: shared.StatementDeprecate, Package: "unknown"},
		},
		shared.ReasonInvalidArgument: {
			{Kind: "nonsense", Package: "known"},
			{Kind: shared.StatementDeprecate, Package: "known", Version: "1.0.0"},
			{Kind: shared.StatementDeprecate, Package: "known", Successor: "../x"},
			{Kind: shared.StatementYank, Package: "known", Version: "1.0.0", Why: strings.Repeat("x", shared.MaxWhy+1)},
		},
	} {
		for _, s := range statements {
			_, err := m.Declare(t.Context(), s)
			want(t, err, reason)
		}
	}
}

func pins(t *testing.T, m shared.Marketplace) {
	none, err := m.Pins(t.Context())
	if err != nil || len(none) != 0 {
		t.Fatalf("pins of a fresh node: %+v, %v", none, err)
	}
	own := publish(t, m, shared.PublishRequest{}, Manifest("pinned", "1.0.0")).Publisher // pins it
	other := shared.PublisherID(shared.DigestOf([]byte("somebody else")).Hex())
	set := func(id, before shared.PublisherID) {
		t.Helper()
		former, err := m.SetPin(t.Context(), "pinned", id)
		if err != nil || former.Name != "pinned" || former.Publisher != before {
			t.Fatalf("former %+v, %v; want %s", former, err, before)
		}
	}
	set(other, own)
	_, err = m.Describe(t.Context(), shared.Ref{Name: "pinned"})
	want(t, err, shared.ReasonUntrusted)
	set(own[:shared.MinPublisherPrefix], other)
	if all, err := m.Pins(t.Context()); err != nil || len(all) != 1 || all[0].Publisher != own || all[0].Since.IsZero() {
		t.Fatalf("pins %+v, %v", all, err)
	}
	set("", own)
	if all, err := m.Pins(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("pins %+v, %v", all, err)
	}
	for reason, pin := range map[shared.Reason]shared.Pin{
		shared.ReasonInvalidArgument: {Name: "../x", Publisher: own},
		shared.ReasonNotFound:        {Name: "pinned", Publisher: "0000000000000000"},
	} {
		_, err := m.SetPin(t.Context(), pin.Name, pin.Publisher)
		want(t, err, reason)
	}
}

func explain(t *testing.T, m shared.Marketplace) {
	id := publish(t, m, shared.PublishRequest{}, Manifest("mine", "1.0.0")).Publisher
	report, err := m.Explain(t.Context(), "mine")
	if err != nil || report.Rule != shared.RulePin || report.Publisher != id || report.Since.IsZero() {
		t.Fatalf("an own package: %+v, %v", report, err)
	}
	if len(report.Candidates) != 1 || report.Candidates[0].Newest != "1.0.0" || report.Candidates[0].Releases != 1 || report.Candidates[0].FirstSeen.IsZero() {
		t.Errorf("candidates %+v", report.Candidates)
	}
	if _, err := m.SetPin(t.Context(), "mine", ""); err != nil {
		t.Fatal(err)
	}
	if report, err := m.Explain(t.Context(), "mine"); err != nil || report.Rule != shared.RuleOnly || report.Publisher != id {
		t.Errorf("not pinned any more: %+v, %v", report, err)
	}
	// Nobody has agreed to a first use.
	req := shared.InstallRequest{Packages: []shared.Ref{{Name: "mine"}}, Root: t.TempDir(), DryRun: true}
	if receipt, err := m.Install(t.Context(), req, nil); err != nil || len(receipt.Packages) != 1 || !receipt.Packages[0].FirstUse {
		t.Errorf("a dry run: %+v, %v", receipt, err)
	}
	req.DryRun = false
	_, err = m.Install(t.Context(), req, nil)
	want(t, err, shared.ReasonUntrusted)
	req.Accepted = []shared.LockedPackage{{Name: "mine", Publisher: id, Version: "2.0.0"}}
	_, err = m.Install(t.Context(), req, nil)
	want(t, err, shared.ReasonUntrusted)
	req.Policy, req.Accepted[0].Version = shared.PolicyAllowList, "1.0.0"
	_, err = m.Install(t.Context(), req, nil)
	want(t, err, shared.ReasonUntrusted)
	req.Policy = shared.PolicyTOFU
	if _, err = m.Install(t.Context(), req, nil); err != nil {
		t.Error(err)
	}
	for name, reason := range map[string]shared.Reason{"X!": shared.ReasonInvalidArgument, "nobody-has-it": shared.ReasonNoPeers} {
		_, err := m.Explain(t.Context(), name)
		want(t, err, reason)
	}
}

func trustCatalogues(t *testing.T, m shared.Marketplace) {
	id := publish(t, m, shared.PublishRequest{}, Manifest("listed", "1.0.0")).Publisher
	if _, err := m.SetPin(t.Context(), "listed", ""); err != nil {
		t.Fatal(err)
	}
	draft := shared.TrustCatalogue{Title: "Team", Serial: 2, Names: []shared.CatalogueName{{Name: "listed", Publisher: id}}}
	sign := func() []byte {
		t.Helper()
		signed, err := m.SignTrustCatalogue(t.Context(), draft)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	signed := sign()
	for range 2 { // the same issue again changes nothing
		added, err := m.AddTrustCatalogue(t.Context(), signed)
		if err != nil || added.Signer != id || added.Serial != 2 || added.Title != "Team" || !slices.Equal(added.Names, draft.Names) || added.Issued.IsZero() {
			t.Fatalf("added %+v, %v", added, err)
		}
	}
	if report, err := m.Explain(t.Context(), "listed"); err != nil || report.Rule != shared.RuleCatalogue || report.Catalogue != "Team" || report.Publisher != id {
		t.Errorf("a name that is listed: %+v, %v", report, err)
	}
	// The catalogue vouches for the publisher, under the strictest policy too.
	if _, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "listed"}}, Root: t.TempDir(), Policy: shared.PolicyAllowList}, nil); err != nil {
		t.Error(err)
	}
	draft.Serial = 1
	_, err := m.AddTrustCatalogue(t.Context(), sign())
	want(t, err, shared.ReasonUntrusted)
	_, err = m.AddTrustCatalogue(t.Context(), bytes.Replace(signed, []byte("listed"), []byte("l1sted"), 1))
	want(t, err, shared.ReasonIntegrity)
	_, err = m.AddTrustCatalogue(t.Context(), []byte("no catalogue"))
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.SignTrustCatalogue(t.Context(), shared.TrustCatalogue{Title: "empty", Serial: 1})
	want(t, err, shared.ReasonInvalidArgument)
	if list, err := m.TrustCatalogues(t.Context()); err != nil || len(list) != 1 || list[0].Serial != 2 {
		t.Errorf("followed: %+v, %v", list, err)
	}
	if removed, err := m.RemoveTrustCatalogue(t.Context(), id, "Team"); err != nil || removed.Title != "Team" {
		t.Errorf("removed %+v, %v", removed, err)
	}
	_, err = m.RemoveTrustCatalogue(t.Context(), id, "Team")
	want(t, err, shared.ReasonNotFound)
}

func bundles(t *testing.T, m shared.Marketplace) {
	base := publish(t, m, shared.PublishRequest{}, Manifest("bundled-base", "1.0.0"))
	publish(t, m, shared.PublishRequest{}, Manifest("bundled", "1.0.0", "bundled-base"))
	file := filepath.Join(t.TempDir(), "x.bundle")
	exported, err := m.Export(t.Context(), shared.ExportRequest{File: file, Packages: []shared.Ref{{Name: "bundled"}}, Offline: true}, nil)
	if err != nil || len(exported.Packages) != 2 || exported.Packages[0].Digest != base.Digest || exported.Bytes == 0 {
		t.Fatalf("exported %+v, %v", exported, err)
	}
	imported, err := m.Import(t.Context(), file, nil)
	if err != nil || len(imported.Packages) != 2 || imported.Entries != 0 {
		t.Fatalf("imported %+v, %v", imported, err)
	}
	for _, req := range []shared.ExportRequest{{File: "relative", Packages: []shared.Ref{{Name: "bundled"}}}, {File: file}} {
		_, err := m.Export(t.Context(), req, nil)
		want(t, err, shared.ReasonInvalidArgument)
	}
	if err := os.WriteFile(file, []byte("no bundle"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{file, file + ".missing", "relative"} {
		_, err := m.Import(t.Context(), file, nil)
		want(t, err, shared.ReasonInvalidArgument)
	}
}

func cache(t *testing.T, m shared.Marketplace) {
	base := publish(t, m, shared.PublishRequest{}, Manifest("kept-base", "1.0.0"))
	publish(t, m, shared.PublishRequest{}, Manifest("kept", "1.0.0", "kept-base"))
	publish(t, m, shared.PublishRequest{}, Manifest("kept", "2.0.0"))
	pinned, err := m.PinContent(t.Context(), shared.PinRequest{Packages: []shared.Ref{{Name: "kept", Constraint: "1.0.0"}}, Offline: true}, nil)
	if err != nil || len(pinned.Packages) != 1 || pinned.Fetched != 0 {
		t.Fatalf("pinned %+v, %v", pinned, err)
	}
	if p := pinned.Packages[0]; p.Name != "kept" || p.Version != "1.0.0" || p.Publisher != base.Publisher || p.Packages != 2 || p.Bytes <= base.Size || p.Since.IsZero() {
		t.Errorf("%+v", p)
	}
	stats, err := m.CacheStats(t.Context())
	if err != nil || len(stats.Tiers) != 3 || stats.Limit <= 0 || stats.Lifetime <= 0 || stats.Published.Packages != 3 || stats.Published.Bytes < base.Size || len(stats.Pins) != 1 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	// What was published here stays, also when it is named.
	cleaned, err := m.CleanCache(t.Context(), shared.CleanRequest{Packages: []shared.Ref{{Name: "kept", Constraint: "1.0.0"}}})
	if err != nil || len(cleaned.Packages) != 0 || cleaned.Bytes != 0 || len(cleaned.Diagnostics) != 1 {
		t.Errorf("cleaned %+v, %v", cleaned, err)
	}
	if cleaned, err := m.CleanCache(t.Context(), shared.CleanRequest{}); err != nil || cleaned.Bytes != 0 {
		t.Errorf("cleaned %+v, %v", cleaned, err)
	}
	progress := 0
	report, err := m.VerifyCache(t.Context(), func(shared.Progress) { progress++ })
	if err != nil || report.Checked != 6 || report.Bytes != stats.Published.Bytes || len(report.Damaged) != 0 || progress == 0 {
		t.Errorf("verified %+v with %d reports, %v", report, progress, err)
	}
	released, err := m.UnpinContent(t.Context(), shared.Ref{Name: "kept"})
	if err != nil || len(released) != 1 || released[0].Version != "1.0.0" {
		t.Errorf("released %+v, %v", released, err)
	}
	_, err = m.UnpinContent(t.Context(), shared.Ref{Name: "kept"})
	want(t, err, shared.ReasonNotFound)
	_, err = m.PinContent(t.Context(), shared.PinRequest{}, nil)
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.CleanCache(t.Context(), shared.CleanRequest{Unused: -1})
	want(t, err, shared.ReasonInvalidArgument)
}

func provenance(t *testing.T, m shared.Marketplace) {
	receipt := publish(t, m, shared.PublishRequest{}, Manifest("proven", "1.0.0"), File{Name: "a.txt", Content: "a"})
	p, err := m.Prove(t.Context(), shared.Ref{Name: "proven"}, "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	if p.Archive != receipt.Digest || p.Publisher != receipt.Publisher || p.File.Digest != shared.DigestOf([]byte("a")) || p.LogSize != 1 || p.Entry != 0 || p.HeadTime.IsZero() {
		t.Errorf("%+v", p)
	}
	if len(p.Roots) == 0 || p.Roots[0].Digest.Hex() != string(receipt.Publisher) || len(p.Roots[0].Keys) < p.Roots[0].Threshold {
		t.Errorf("roots %+v", p.Roots)
	}
	_, err = m.Prove(t.Context(), shared.Ref{Name: "proven"}, "b.txt")
	want(t, err, shared.ReasonNotFound)
	_, err = m.Prove(t.Context(), shared.Ref{Name: "nobody-has-it"}, "")
	want(t, err, shared.ReasonNoPeers)
}

func keys(t *testing.T, m shared.Marketplace) {
	receipt := publish(t, m, shared.PublishRequest{}, Manifest("signed", "1.0.0"))
	before, err := m.PublisherKeys(t.Context())
	if err != nil || before.Publisher != receipt.Publisher || before.Threshold != 1 || before.LogSize == 0 || before.HeadTime.IsZero() || len(before.Keys) == 0 || !before.Keys[0].Held {
		t.Fatalf("%+v, %v", before, err)
	}
	const passphrase = "four random words here"
	recovery, err := m.MakeKey(t.Context(), passphrase)
	if err != nil || len(recovery.Sealed) == 0 || recovery.Public == "" {
		t.Fatalf("%+v, %v", recovery, err)
	}
	rotated, err := m.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyRotate, Add: 1, Drop: []string{before.Keys[0].Fingerprint}, Recovery: recovery.Public})
	if err != nil {
		t.Fatal(err)
	}
	if k := rotated.Keys; k.Publisher != before.Publisher || k.Root != before.Root+1 || k.Recovery != recovery.Fingerprint || k.LogSize != before.LogSize+1 {
		t.Errorf("%+v", k)
	}
	exported, err := m.ExportKey(t.Context(), rotated.Keys.Keys[0].Fingerprint, passphrase)
	if err != nil || exported.Public != rotated.Keys.Keys[0].Public {
		t.Fatalf("%+v, %v", exported, err)
	}
	if _, err := m.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyImport, Sealed: [][]byte{exported.Sealed}, Passphrase: passphrase}); err != nil {
		t.Errorf("import what is here: %v", err)
	}
	publish(t, m, shared.PublishRequest{}, Manifest("signed", "1.1.0"))
	recovered, err := m.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyRecover, Sealed: [][]byte{recovery.Sealed}, Passphrase: passphrase, Keep: rotated.Keys.LogSize, DryRun: true})
	if err != nil || recovered.VoidTotal != 1 || len(recovered.Void) != 1 || recovered.Void[0].Entry != rotated.Keys.LogSize || recovered.Void[0].Text != "release signed@1.1.0" {
		t.Errorf("%+v, %v", recovered, err)
	}
	_, err = m.MakeKey(t.Context(), "short")
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.ExportKey(t.Context(), "ffffffffffffffff", passphrase)
	want(t, err, shared.ReasonNotFound)
	_, err = m.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyInit})
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.ChangeKeys(t.Context(), shared.KeyChange{Action: shared.KeyImport, Sealed: [][]byte{exported.Sealed}, Passphrase: "another passphrase"})
	want(t, err, shared.ReasonInvalidArgument)
}

func forkProofs(t *testing.T, m shared.Marketplace) {
	id := publish(t, m, shared.PublishRequest{}, Manifest("honest", "1.0.0")).Publisher
	_, err := m.ForkProof(t.Context(), id)
	want(t, err, shared.ReasonNotFound)
	_, err = m.CheckForkProof(t.Context(), []byte("{}"))
	want(t, err, shared.ReasonIntegrity)
	_, err = m.CheckForkProof(t.Context(), []byte("no proof"))
	want(t, err, shared.ReasonInvalidArgument)
}

func dryRun(t *testing.T, m shared.Marketplace) {
	dry := publish(t, m, shared.PublishRequest{DryRun: true}, Manifest("dry", "1.0.0"))
	if !dry.DryRun || dry.Digest == "" || len(dry.Files) != 1 || !strings.Contains(dry.Manifest, `name = "dry"`) || !json.Valid([]byte(dry.Statement)) {
		t.Fatalf("receipt %+v", dry)
	}
	// Lint is one too, whatever else the request says, and has an opinion besides.
	linted := publish(t, m, shared.PublishRequest{Lint: true, Wait: true}, Manifest("dry", "1.0.0"))
	if !linted.DryRun || linted.Digest != dry.Digest || linted.Manifest != dry.Manifest {
		t.Fatalf("linted %+v", linted)
	}
	empty(t, m)
	if wet := publish(t, m, shared.PublishRequest{}, Manifest("dry", "1.0.0")); wet.Digest != dry.Digest {
		t.Fatalf("the dry run promised %s, and it became %s", dry.Digest, wet.Digest)
	}
}

func empty(t *testing.T, m shared.Marketplace) {
	t.Helper()
	if result, err := m.Search(t.Context(), shared.SearchQuery{}); err != nil || result.Total != 0 {
		t.Fatalf("the catalogue is not empty: %+v, %v", result, err)
	}
}

func refusals(t *testing.T, m shared.Marketplace) {
	for _, c := range []struct {
		name   string
		files  []File
		reason shared.Reason
		key    string
		value  string
	}{
		{"no manifest", []File{{Name: "README.md"}}, shared.ReasonInvalidManifest, "", ""},
		{"broken manifest", []File{{Name: "package.toml", Content: "[package]\nname = \"x\"\nversion = = 2\n"}}, shared.ReasonInvalidManifest, "line", "3"},
		{"no version", []File{{Name: "package.toml", Content: "[package]\nname = \"x\"\n"}}, shared.ReasonInvalidManifest, "file", "package.toml"},
		{"version that is none", []File{Manifest("x", "one")}, shared.ReasonInvalidManifest, "file", "package.toml"},
		{"name that is none", []File{Manifest("X!", "1.0.0")}, shared.ReasonInvalidManifest, "file", "package.toml"},
		{"symbolic link", []File{Manifest("x", "1.0.0"), {Name: "l", Link: "/etc/passwd"}}, shared.ReasonInvalidPackage, "path", "l"},
		{"path upwards", []File{Manifest("x", "1.0.0"), {Name: "../up"}}, shared.ReasonInvalidPackage, "path", "../up"},
		{"names that differ in case", []File{Manifest("x", "1.0.0"), {Name: "a"}, {Name: "A"}}, shared.ReasonInvalidPackage, "path", "A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := m.Publish(t.Context(), shared.PublishRequest{}, Tree(t, c.files...), nil)
			e := want(t, err, c.reason)
			if e.Metadata[c.key] != c.value {
				t.Fatalf("metadata %v, want %s=%s", e.Metadata, c.key, c.value)
			}
			receipt, err := m.Publish(t.Context(), shared.PublishRequest{Lint: true}, Tree(t, c.files...), nil)
			if err != nil || !slices.ContainsFunc(receipt.Findings, func(f shared.Finding) bool { return f.Severity == shared.SeverityError && f.Message != "" }) {
				t.Errorf("lint finds no error: %+v, %v", receipt.Findings, err)
			}
			empty(t, m)
		})
	}
}

// failing yields some bytes and then an error.
type failing struct {
	head io.Reader
	err  error
}

// Read implements io.Reader.
func (f *failing) Read(p []byte) (int, error) {
	n, err := f.head.Read(p)
	if errors.Is(err, io.EOF) {
		return n, f.err
	}
	return n, err
}

func brokenUpload(t *testing.T, m shared.Marketplace) {
	whole := Tree(t, Manifest("cut", "1.0.0"), File{Name: "big", Content: strings.Repeat("x", 1<<20)})
	cause := shared.NewError(shared.ReasonInvalidPackage, "big cannot be read")
	_, err := m.Publish(t.Context(), shared.PublishRequest{}, &failing{io.LimitReader(whole, 600<<10), cause}, nil)
	want(t, err, shared.ReasonInvalidPackage)
	empty(t, m)
}

func largePackage(t *testing.T, m shared.Marketplace) {
	files := []File{Manifest("large", "1.0.0"), {Name: "big.bin", Content: strings.Repeat("0123456789abcdef", 5<<16)}} // 5 MiB
	for i := range 3000 {
		files = append(files, File{Name: fmt.Sprintf("a-rather-long-folder-name-to-fill-messages/%04d-%s.txt", i, strings.Repeat("n", 60)), Content: "x"})
	}
	receipt := publish(t, m, shared.PublishRequest{}, files...)
	if len(receipt.Files) != len(files) || receipt.Size < 5<<20 {
		t.Fatalf("%d files, %d bytes", len(receipt.Files), receipt.Size)
	}
}

func progress(t *testing.T, m shared.Marketplace) {
	phases := map[shared.Phase]bool{}
	report := func(p shared.Progress) { phases[p.Phase] = true } // no lock: never called concurrently
	tree := Tree(t, Manifest("shown", "1.0.0"), File{Name: "big", Content: strings.Repeat("x", 1<<20)})
	if _, err := m.Publish(t.Context(), shared.PublishRequest{}, tree, report); err != nil {
		t.Fatal(err)
	}
	req := shared.InstallRequest{Packages: []shared.Ref{{Name: "shown"}}, Root: t.TempDir(), Trust: true}
	if _, err := m.Install(t.Context(), req, report); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []shared.Phase{shared.PhaseUpload, shared.PhaseSign, shared.PhaseAnnounce, shared.PhaseResolve, shared.PhaseUnpack} {
		if !phases[phase] {
			t.Errorf("no progress in phase %s", phase)
		}
	}
}

func installAndVerify(t *testing.T, m shared.Marketplace) {
	publish(t, m, shared.PublishRequest{}, Manifest("base", "1.0.0"), File{Name: "a.txt", Content: "a"}, File{Name: "b.txt", Content: "b"})
	publish(t, m, shared.PublishRequest{}, Manifest("top", "2.0.0", "base@^1"))
	root := t.TempDir()
	receipt, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: root, Trust: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(receipt.Packages) != 2 || receipt.Packages[0].Name != "base" || receipt.Packages[1].Name != "top" || receipt.Packages[0].Requested || !receipt.Packages[1].Requested ||
		len(receipt.Packages[1].Dependencies) != 1 || receipt.Packages[1].Path != filepath.Join(root, "top") {
		t.Fatalf("receipt %+v", receipt)
	}
	locked := []shared.LockedPackage{receipt.Packages[0].LockedPackage, receipt.Packages[1].LockedPackage}
	report, err := m.Verify(t.Context(), shared.VerifyRequest{Root: root, Packages: locked})
	if err != nil || len(report.Packages) != 2 || !report.Packages[0].OK || !report.Packages[1].OK {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	base := filepath.Join(root, "base")
	if err := errors.Join(os.WriteFile(filepath.Join(base, "a.txt"), []byte("A"), 0o644), os.Remove(filepath.Join(base, "b.txt")), os.WriteFile(filepath.Join(base, "c.txt"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	report, err = m.Verify(t.Context(), shared.VerifyRequest{Root: root, Packages: locked})
	if err != nil {
		t.Fatal(err)
	}
	got := report.Packages[0]
	if got.OK || strings.Join(got.Modified, " ") != "a.txt" || strings.Join(got.Missing, " ") != "b.txt" || strings.Join(got.Extra, " ") != "c.txt" || got.Found == got.Expected {
		t.Fatalf("verify: %+v", got)
	}
	_, err = m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "top"}}, Root: root, Locked: locked}, nil)
	want(t, err, shared.ReasonModified)
}

func failedInstall(t *testing.T, m shared.Marketplace) {
	publish(t, m, shared.PublishRequest{}, Manifest("needy", "1.0.0", "absent"))
	for _, c := range []struct {
		name    string
		req     shared.InstallRequest
		reasons []shared.Reason
	}{
		{"unknown dependency", shared.InstallRequest{Packages: []shared.Ref{{Name: "needy"}}}, []shared.Reason{shared.ReasonNotFound, shared.ReasonNoPeers}},
		{"no version fits", shared.InstallRequest{Packages: []shared.Ref{{Name: "needy", Constraint: "^2"}}}, []shared.Reason{shared.ReasonUnsatisfiable}},
		{"nothing asked for", shared.InstallRequest{}, []shared.Reason{shared.ReasonInvalidArgument}},
		{"name that is none", shared.InstallRequest{Packages: []shared.Ref{{Name: "../x"}}}, []shared.Reason{shared.ReasonInvalidArgument}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.req.Root, c.req.Trust = t.TempDir(), true
			_, err := m.Install(t.Context(), c.req, nil)
			fits := false
			for _, reason := range c.reasons {
				fits = fits || errors.Is(err, reason)
			}
			if left, readErr := os.ReadDir(c.req.Root); !fits || readErr != nil || len(left) > 0 {
				t.Fatalf("got %v, want one of %v; left %v, %v", err, c.reasons, left, readErr)
			}
		})
	}
	_, err := m.Install(t.Context(), shared.InstallRequest{Packages: []shared.Ref{{Name: "needy"}}, Root: "relative"}, nil)
	want(t, err, shared.ReasonInvalidArgument)
}

func lonelyNode(t *testing.T, m shared.Marketplace) {
	status, err := m.Status(t.Context())
	if err != nil || status.PeerID == "" || len(status.ListenAddresses) == 0 || !status.Publisher.Complete() || status.Version == "" || len(status.Diagnostics) == 0 {
		t.Fatalf("status %+v, %v", status, err)
	}
	for _, addr := range status.ListenAddresses {
		if !strings.HasSuffix(addr, "/p2p/"+status.PeerID) {
			t.Errorf("%s cannot be dialled: it does not end in the peer ID", addr)
		}
	}
	peers, err := m.Peers(t.Context(), shared.PeerQuery{})
	if err != nil || peers.Total != 0 {
		t.Fatalf("peers %+v, %v", peers, err)
	}
	_, err = m.Peers(t.Context(), shared.PeerQuery{ID: "nobody"})
	want(t, err, shared.ReasonNotFound)
}

func bootstrap(t *testing.T, m shared.Marketplace) {
	_, err := m.Bootstrap(t.Context(), []string{"not an address"})
	want(t, err, shared.ReasonInvalidArgument)
	_, err = m.Bootstrap(t.Context(), nil)
	want(t, err, shared.ReasonInvalidArgument)
	dead := "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
	outcomes, err := m.Bootstrap(t.Context(), []string{dead})
	if err != nil || len(outcomes) != 1 || outcomes[0].Address != dead || outcomes[0].Err == nil || outcomes[0].Err.Message == "" {
		t.Fatalf("outcomes %+v, %v", outcomes, err)
	}
}

func watch(t *testing.T, m shared.Marketplace) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, done := make(chan shared.Event, 16), make(chan error, 1)
	go func() {
		done <- m.Watch(ctx, shared.WatchQuery{Kinds: []shared.EventKind{shared.EventRelease}}, func(ev shared.Event) error {
			events <- ev
			return nil
		})
	}()
	// Nobody can know when a watch has begun: publish until one is seen.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		publish(t, m, shared.PublishRequest{}, Manifest("seen", fmt.Sprintf("1.0.%d", i)))
		select {
		case ev := <-events:
			if ev.Kind != shared.EventRelease || ev.Package.Name != "seen" || ev.Time.IsZero() {
				t.Fatalf("event %+v", ev)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, shared.ReasonCanceled) {
				t.Fatalf("the watch ended with %v", err)
			}
			return
		case err := <-done:
			t.Fatalf("the watch ended with %v", err)
		case <-tick.C:
		}
	}
}

func watchConsumer(t *testing.T, m shared.Marketplace) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	enough := errors.New("enough")
	done := make(chan error, 1)
	go func() { done <- m.Watch(ctx, shared.WatchQuery{}, func(shared.Event) error { return enough }) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		publish(t, m, shared.PublishRequest{}, Manifest("seen", fmt.Sprintf("1.0.%d", i)))
		select {
		case err := <-done:
			if !errors.Is(err, enough) {
				t.Fatalf("the watch ended with %v", err)
			}
			return
		case <-tick.C:
		}
	}
}

func cancelled(t *testing.T, m shared.Marketplace) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(t, m) {
		t.Run(name, func(t *testing.T) {
			err := call(ctx)
			want(t, err, shared.ReasonCanceled)
			if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v is not told apart", err)
			}
		})
	}
}

func deadline(t *testing.T, m shared.Marketplace) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, call := range calls(t, m) {
		t.Run(name, func(t *testing.T) {
			err := call(ctx)
			want(t, err, shared.ReasonDeadlineExceeded)
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				t.Fatalf("%v is not told apart", err)
			}
		})
	}
	t.Run("in the middle of a watch", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := m.Watch(ctx, shared.WatchQuery{}, func(shared.Event) error { return nil })
		want(t, err, shared.ReasonDeadlineExceeded)
	})
}

// calls are calls that need some work; each has to notice that its context ended.
func calls(t *testing.T, m shared.Marketplace) map[string]func(context.Context) error {
	t.Helper()
	root := t.TempDir()
	return map[string]func(context.Context) error{
		"info":   func(ctx context.Context) error { _, err := m.Info(ctx); return err },
		"search": func(ctx context.Context) error { _, err := m.Search(ctx, shared.SearchQuery{}); return err },
		"status": func(ctx context.Context) error { _, err := m.Status(ctx); return err },
		"peers":  func(ctx context.Context) error { _, err := m.Peers(ctx, shared.PeerQuery{}); return err },
		"publish": func(ctx context.Context) error {
			_, err := m.Publish(ctx, shared.PublishRequest{}, Tree(t, Manifest("late", "1.0.0")), nil)
			return err
		},
		"install": func(ctx context.Context) error {
			_, err := m.Install(ctx, shared.InstallRequest{Packages: []shared.Ref{{Name: "late"}}, Root: root}, nil)
			return err
		},
		"verify": func(ctx context.Context) error {
			_, err := m.Verify(ctx, shared.VerifyRequest{Root: root, Packages: []shared.LockedPackage{{Name: "late"}}})
			return err
		},
		"keys": func(ctx context.Context) error { _, err := m.PublisherKeys(ctx); return err },
		"rotate": func(ctx context.Context) error {
			_, err := m.ChangeKeys(ctx, shared.KeyChange{Action: shared.KeyRotate})
			return err
		},
		"watch": func(ctx context.Context) error {
			return m.Watch(ctx, shared.WatchQuery{}, func(shared.Event) error { return nil })
		},
	}
}
