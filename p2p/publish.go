package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
	"go.opentelemetry.io/otel/attribute"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/gossip"
	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/readme"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// Publish makes a signed release of a folder; see [shared.Marketplace]. Durable
// comes before visible: the content is on disk before the log names it, and the
// log before anybody is told.
func (e *Engine) Publish(ctx context.Context, req shared.PublishRequest, tree io.Reader, report shared.ProgressFunc) (receipt shared.PublishReceipt, err error) {
	if len(req.RequestID) > maxRequestID {
		return receipt, shared.NewError(shared.ReasonInvalidArgument, "the request ID has %d bytes; %d are allowed", len(req.RequestID), maxRequestID)
	}
	tree = &reportingReader{tree: tree, report: report}
	if req.Lint {
		return e.lint(ctx, tree)
	}
	packing, end := tracing.Start(ctx, "archive")
	packed, err := archive.Pack(packing, tree, e.store.Scratch(), archive.DefaultLimits(), executables)
	end(err)
	if err != nil {
		return receipt, named(err, "publish")
	}
	defer func() { err = errors.Join(err, packed.Close()) }()
	d, err := e.draft(packed)
	if err != nil {
		return receipt, err
	}
	receipt = d.receipt(e.ring.ID())
	switch {
	case req.DryRun:
		d.show(&receipt)
	case req.RequestID == "":
		err = e.release(ctx, req, d, executed{}, &receipt, report)
	default:
		err = e.releaseOnce(ctx, req, d, &receipt, report)
	}
	return receipt, err
}

// draft is a release that is checked, and neither stored nor signed.
type draft struct {
	packed   *archive.Packed
	manifest *manifest.Manifest
	remarks  []shared.Finding // on the manifest
	index    []byte
	body     publisher.Release
	entry    []byte // what would be signed now
}

func (d draft) String() string { return d.body.Name + "@" + d.body.Version }

func (e *Engine) draft(packed *archive.Packed) (draft, error) {
	m, remarks, err := readManifest(packed)
	if err != nil {
		return draft{}, named(err, "publish")
	}
	index, err := packed.Index.Marshal()
	if err != nil {
		return draft{}, named(err, "publish %s", m.Name)
	}
	d := draft{packed: packed, manifest: m, remarks: remarks, index: index, body: releaseOf(m, packed.Index, index)}
	if d.body.Readme, err = excerptOf(m, packed); err != nil {
		return draft{}, named(err, "publish %s: read its readme", m.Name)
	}
	state := publisher.Entry{Kind: publisher.KindRelease, Publisher: e.ring.ID(), Time: e.now().Unix(), Release: &d.body}
	if d.entry, err = state.Encode(); err != nil && d.body.Readme != "" {
		d.body.Readme = "" // everything else that a release says goes before it
		d.entry, err = state.Encode()
	}
	if err != nil {
		return draft{}, shared.NewError(shared.ReasonInvalidManifest, "%s: %w", m.File, err).With("file", m.File)
	}
	return d, nil
}

// show adds what only a dry run tells.
func (d draft) show(receipt *shared.PublishReceipt) {
	receipt.DryRun = true
	receipt.Manifest = string(d.manifest.Normal())
	receipt.Statement = string(d.entry)
}

// releaseOnce releases a draft, unless a call of the same ID has done so. Calls that
// come at the same time wait for the first one; if it fails, the next one tries.
func (e *Engine) releaseOnce(ctx context.Context, req shared.PublishRequest, d draft, receipt *shared.PublishReceipt, report shared.ProgressFunc) error {
	end, err := e.requests.begin(ctx, req.RequestID)
	if err != nil {
		return named(err, "publish %s", d)
	}
	defer end()
	before, err := e.requests.find(req.RequestID, d.body.Archive.Digest)
	if err != nil {
		return named(err, "publish %s", d)
	}
	if before.Answered {
		before.complete(receipt)
		return nil
	}
	own := len(receipt.Diagnostics)
	if err := e.release(ctx, req, d, before, receipt, report); err != nil {
		return err
	}
	if err := e.requests.keep(req.RequestID, executedAs(*receipt, own, e.now())); err != nil {
		e.log.WarnContext(ctx, "note an executed request", "id", req.RequestID, "error", err) // the release is durable
	}
	return nil
}

// release makes a draft durable, then visible, and completes its receipt. before is
// what a call of the same ID has left that a crash interrupted.
func (e *Engine) release(ctx context.Context, req shared.PublishRequest, d draft, before executed, receipt *shared.PublishReceipt, report shared.ProgressFunc) error {
	report.Report(shared.Progress{Phase: shared.PhaseArchive, Package: d.String()})
	e.adding.RLock() // nothing of it is swept before the log names it
	defer e.adding.RUnlock()
	if err := e.keepContent(ctx, d); err != nil {
		return err
	}
	report.Report(shared.Progress{Phase: shared.PhaseSign, Package: d.String()})
	_, end := tracing.Start(ctx, "sign")
	rel, update, err := e.state(req, d)
	end(err)
	if err != nil {
		return named(err, "publish %s", d)
	}
	receipt.LogSize = rel.Entry + 1
	receipt.Unchanged = update == nil && before.Digest == ""
	if err := e.catalog.Pin(map[string]shared.PublisherID{d.body.Name: e.ring.ID()}); err != nil {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonUntrusted, Message: err.Error(),
			Hint: "your release is published under your own ID; on this machine the bare name still means the other publisher",
		})
	}
	if update != nil {
		e.indexAll(update.Entries)
		e.feed.publish(shared.Event{Kind: shared.EventRelease, Package: summaryOf(rel)})
	}
	report.Report(shared.Progress{Phase: shared.PhaseAnnounce, Package: d.String()})
	e.tellNetwork(ctx, req, update, rel, receipt)
	return nil
}

// keepContent puts a draft's archive and index into the store.
func (e *Engine) keepContent(ctx context.Context, d draft) (err error) {
	ctx, end := tracing.Start(ctx, "store", attribute.Int64("bytes", d.body.Archive.Size))
	defer func() { end(err) }()
	if err := e.store.PutFile(ctx, d.packed.Path(), d.body.Archive.Digest); err != nil {
		return named(err, "publish %s: keep the archive", d)
	}
	e.audits.whole(d.body.Archive.Digest, e.now())
	if _, _, err := e.store.Put(ctx, bytes.NewReader(d.index), d.body.Index.Digest); err != nil {
		return named(err, "publish %s: keep the index", d)
	}
	return nil
}

// state appends a draft to the log. That its request did so is noted in the same
// transaction, so that the two are never apart.
func (e *Engine) state(req shared.PublishRequest, d draft) (*catalog.Release, *publisher.Update, error) {
	if req.RequestID == "" {
		return e.catalog.Publish(e.ring, d.body)
	}
	made := executed{Time: e.now(), Digest: d.body.Archive.Digest}
	var leaving []string
	rel, update, err := e.catalog.PublishWith(e.ring, d.body, func(tx *bbolt.Tx) (err error) {
		leaving, err = e.requests.note(tx, req.RequestID, made)
		return err
	})
	if update != nil {
		e.requests.remember(req.RequestID, made, leaving)
	}
	return rel, update, err
}

// indexAll makes what own entries say searchable. It is mostly one; an entry that a
// crash had kept from the log comes with the next.
func (e *Engine) indexAll(entries [][]byte) {
	for _, raw := range entries {
		entry, err := publisher.DecodeEntry(raw)
		switch {
		case err != nil: // own ones are in order
		case entry.Release != nil:
			e.index(entry.Release.Name, e.ring.ID())
		case entry.Yank != nil:
			e.index(entry.Yank.Name, e.ring.ID())
		case entry.Advice != nil:
			e.index(entry.Advice.Name, e.ring.ID())
		}
	}
}

// tellNetwork announces a release. Nobody being there is no failure: whoever
// connects later fetches what it lacks.
func (e *Engine) tellNetwork(ctx context.Context, req shared.PublishRequest, update *publisher.Update, rel *catalog.Release, receipt *shared.PublishReceipt) {
	if update != nil {
		announcing, end := tracing.Start(ctx, "announce")
		told, err := e.announce(announcing, *update)
		end(err)
		if err != nil {
			e.log.WarnContext(ctx, "announce a release", "package", rel.Name, "version", rel.Version, "error", err)
		}
		receipt.Announced = told
	}
	if receipt.Announced == 0 && len(e.node.Connected()) == 0 {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityInfo, Reason: shared.ReasonNoPeers,
			Message: "no peer is connected: the release is stored here, and others learn of it when they connect",
			Hint:    "keep this peer running (`ggen marketplace p2p start`) and connect it (`p2p bootstrap ADDRESS`)",
		})
	}
	if !req.Wait {
		e.backgroundOf(ctx, func(ctx context.Context) { _, _ = e.record(ctx, rel) })
		return
	}
	recorded, err := e.record(ctx, rel)
	receipt.Recorded = recorded
	if err != nil {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.AsError(err).Reason, Message: "DHT records: " + err.Error(),
			Hint: "they are put again by themselves while this peer runs",
		})
	}
}

// record puts the head and the provider record of a release into the DHT.
func (e *Engine) record(ctx context.Context, rel *catalog.Release) (stored int, err error) {
	ctx, end := tracing.Start(ctx, "dht.record")
	defer func() { end(err) }()
	heads, headErr := e.routing.PutHead(ctx, rel.Publisher, e.headRecord(rel.Publisher))
	providers, provideErr := e.routing.Provide(ctx, rel.Archive.Digest)
	return heads + providers, errors.Join(headErr, provideErr)
}

// announce gossips an update, without its entries where they would make it large:
// receivers then fetch them from whoever told them.
func (e *Engine) announce(ctx context.Context, u publisher.Update) (told int, err error) {
	message := u.Marshal()
	if len(message) > gossip.GoodMessage {
		message = publisher.Update{Roots: u.Roots, Head: u.Head, From: u.From + int64(len(u.Entries))}.Marshal()
	}
	return e.topic.Announce(ctx, message)
}

// manifestLimit is manifest.MaxSize as package archive counts.
const manifestLimit = int64(manifest.MaxSize)

// readManifest returns the manifest of a package with remarks that forbid nothing.
func readManifest(packed *archive.Packed) (*manifest.Manifest, []shared.Finding, error) {
	file, err := manifest.Find(topLevel(packed.Index))
	if err != nil {
		return nil, nil, err
	}
	data, err := packed.ReadFile(file, manifestLimit)
	if err != nil {
		return nil, nil, err
	}
	return manifest.Parse(file, data)
}

// excerptOf is what searches look at of the readme: of the file that the manifest names,
// or else of the one that is called so.
func excerptOf(m *manifest.Manifest, packed *archive.Packed) (string, error) {
	file := path.Clean(m.Readme)
	if _, ok := packed.Index.File(file); !ok {
		file = readme.Find(topLevel(packed.Index))
	}
	if file == "" {
		return "", nil
	}
	start, err := packed.ReadStart(file, readme.MaxSource)
	return readme.Excerpt(start, publisher.MaxReadme), err
}

// executables lets the manifest say which files are executable: what a file's mode is
// depends on where it lies. What is wrong with the manifest is told when it is read.
func executables(names []string, read func(name string, most int64) ([]byte, error)) func(name string) bool {
	none := func(string) bool { return false }
	var top []string
	for _, name := range names {
		if !strings.Contains(name, "/") {
			top = append(top, name)
		}
	}
	file, err := manifest.Find(top)
	if err != nil {
		return none
	}
	data, err := read(file, manifestLimit)
	if err != nil {
		return none
	}
	m, _, err := manifest.Parse(file, data)
	if err != nil {
		return none
	}
	return m.Executable
}

// tamed is the remark on a file that is executable for its author alone.
func tamed(name string) shared.Finding {
	return shared.Finding{
		Severity: shared.SeverityInfo, Rule: "executables", File: name,
		Message: "it is executable here, and is not in the package", Fix: fmt.Sprintf("add %q to `executables` in the manifest if others are to execute it", name),
	}
}

// topLevel lists the files in the package's own folder.
func topLevel(ix *archive.Index) (names []string) {
	for _, f := range ix.Files {
		if !f.Dir && !strings.Contains(f.Path, "/") {
			names = append(names, f.Path)
		}
	}
	return names
}

// releaseOf is what the publisher will sign. Texts that are longer than a log
// entry should be are cut; the whole text stays in the package.
func releaseOf(m *manifest.Manifest, ix *archive.Index, index []byte) publisher.Release {
	files := 0
	for _, f := range ix.Files {
		if !f.Dir {
			files++
		}
	}
	body := publisher.Release{
		Name: m.Name, Version: m.Version,
		Title:       publisher.CutText(m.Title, publisher.MaxTitle),
		Description: publisher.CutText(m.Description, publisher.MaxDescription),
		License:     publisher.CutText(m.License, publisher.MaxLicense),
		Category:    publisher.CutText(m.Category, publisher.MaxCategory),
		Repository:  publisher.CutText(m.Repository, publisher.MaxRepository),
		Authors:     cutList(m.Authors, publisher.MaxAuthors, publisher.MaxAuthor),
		Tags:        cutList(m.Tags, publisher.MaxTags, publisher.MaxTag),
		Keywords:    cutList(m.Keywords, publisher.MaxTags, publisher.MaxTag),
		Files:       files,
		Archive:     publisher.Content{Digest: ix.Digest, Size: ix.Size},
		Index:       publisher.Content{Digest: shared.DigestOf(index), Size: int64(len(index))},
	}
	for _, dep := range m.Dependencies {
		body.Dependencies = append(body.Dependencies, publisher.Dependency(dep))
	}
	return body
}

func cutList(list []string, count, most int) []string {
	list = slices.Clone(list[:min(len(list), count)])
	for i := range list {
		list[i] = publisher.CutText(list[i], most)
	}
	return list
}

func (d draft) receipt(id shared.PublisherID) shared.PublishReceipt {
	receipt := shared.PublishReceipt{Package: d.body.Name, Version: d.body.Version, Publisher: id, Digest: d.body.Archive.Digest, Size: d.body.Archive.Size}
	for _, f := range d.packed.Index.Files {
		if !f.Dir {
			receipt.Files = append(receipt.Files, shared.FileInfo{Path: f.Path, Size: f.Size, Executable: f.Executable, Digest: f.Digest})
		}
	}
	for _, dep := range d.body.Dependencies {
		receipt.Dependencies = append(receipt.Dependencies, shared.Dependency(dep))
	}
	for _, skipped := range d.packed.Skipped {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{Severity: shared.SeverityInfo, Message: skipped + "/ is left out of the package"})
	}
	for _, name := range d.packed.Tamed {
		f := tamed(name)
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{Severity: f.Severity, Message: f.File + ": " + f.Message, Hint: f.Fix})
	}
	for _, f := range d.remarks {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{Severity: f.Severity, Message: f.Where() + ": " + f.Message, Hint: f.Fix})
	}
	return receipt
}

// reportingReader reports how much of the upload has arrived, every 256 KiB.
type reportingReader struct {
	tree           io.Reader
	report         shared.ProgressFunc
	done, reported int64
}

// Read implements io.Reader.
func (r *reportingReader) Read(p []byte) (int, error) {
	n, err := r.tree.Read(p)
	r.done += int64(n)
	if r.done-r.reported >= archive.ChunkSize {
		r.reported = r.done
		r.report.Report(shared.Progress{Phase: shared.PhaseUpload, Done: r.done})
	}
	return n, err
}

// named puts what was done in front of an error and keeps its reason and hint.
func named(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return shared.AsError(fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err))
}
