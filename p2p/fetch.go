package p2p

import (
	"bytes"
	"context"
	"iter"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.opentelemetry.io/otel/attribute"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/tracing"
)

// maxProviders is how many providers of one release the DHT is asked for.
const maxProviders = 20

// fetch makes sure that a step's content is in the store and its index read.
func (e *Engine) fetch(ctx context.Context, req shared.InstallRequest, s *step, report shared.ProgressFunc) error {
	rel := s.release
	var err error
	if e.store.Has(rel.Archive.Digest) {
		if s.index, err = e.readIndex(ctx, rel); err == nil {
			e.wanted(ctx, true)
			return nil
		}
	}
	e.wanted(ctx, false)
	if req.Offline {
		return shared.NewError(shared.ReasonOffline, "%s is not on this machine, and --offline forbids to fetch it", s.label()).
			WithHint("run the command without --offline")
	}
	fetching, end := tracing.Start(ctx, "fetch", attribute.String("package", s.label()), attribute.Int64("bytes", rel.Archive.Size))
	started := e.now()
	stats, err := e.fetchContent(fetching, s, report)
	tracing.Note(fetching, attribute.Int64("fetched", stats.Fetched), attribute.Int("peers", len(stats.From)))
	end(err)
	e.meters.Transferred(fetching, outcomeOf(err), e.now().Sub(started))
	if err != nil {
		return e.explain(err, rel)
	}
	s.fetched, s.peers = stats.Fetched, len(stats.From)
	e.noteProviders(ctx, rel, stats.From)
	// Whoever installs a package serves it from now on.
	e.backgroundOf(ctx, func(ctx context.Context) {
		ctx, end := tracing.Start(ctx, "dht.provide")
		_, err := e.routing.Provide(ctx, rel.Archive.Digest)
		end(err)
	})
	return nil
}

// small is up to how many bytes an archive is asked for together with its index, which
// saves a round trip: one range of a transfer. Of a larger one the index tells what is
// here already, and who sends which part of the rest.
const small = transfer.MaxRange

// fetchContent gets a step's index and archive from peers.
func (e *Engine) fetchContent(ctx context.Context, s *step, report shared.ProgressFunc) (transfer.Stats, error) {
	rel := s.release
	if rel.Archive.Size <= small && !e.store.Has(rel.Index.Digest) && len(e.relatives(rel)) == 0 {
		return e.fetchSmall(ctx, s)
	}
	var err error
	if s.index, err = e.fetchIndex(ctx, rel); err != nil {
		return transfer.Stats{}, err
	}
	want := transfer.Want{Digest: s.index.Digest, Size: s.index.Size}
	open := func() (transfer.Sink, error) { return e.assemble(ctx, rel, s.index) }
	errand := e.errand(rel, want.Size)
	stats, err := e.fetcher.Fetch(ctx, want, open, errand.candidates, func(done, total int64) {
		report.Report(shared.Progress{Phase: shared.PhaseFetch, Package: s.label(), Done: done, Total: total})
	})
	errand.finish(err)
	if err == nil {
		e.audits.whole(want.Digest, e.now())
	}
	return stats, err
}

// fetchSmall gets a step's index and archive at once.
func (e *Engine) fetchSmall(ctx context.Context, s *step) (transfer.Stats, error) {
	rel := s.release
	wants := []transfer.Want{{Digest: rel.Index.Digest, Size: rel.Index.Size}, {Digest: rel.Archive.Digest, Size: rel.Archive.Size}}
	errand := e.errand(rel, rel.Index.Size+rel.Archive.Size)
	data, stats, err := e.fetcher.FetchBlobs(ctx, wants, archive.MaxIndexSize+small, errand.candidates)
	errand.finish(err)
	if err != nil {
		return stats, err
	}
	if s.index, err = parseIndex(rel, data[0]); err != nil {
		return stats, err
	}
	e.indexes.Put(string(rel.Index.Digest), heldIndex{s.index, data[0]})
	stats.Fetched = rel.Archive.Size // as for others: without the index
	return stats, e.keepAll(ctx, rel, data...)
}

// keepAll puts a release's index, and its archive, into the store.
func (e *Engine) keepAll(ctx context.Context, rel *catalog.Release, data ...[]byte) error {
	for i, content := range []publisher.Content{rel.Index, rel.Archive}[:len(data)] {
		if _, _, err := e.store.Put(ctx, bytes.NewReader(data[i]), content.Digest); err != nil {
			return err
		}
	}
	return nil
}

// fetchIndex gets a release's index, from the cache or from peers.
func (e *Engine) fetchIndex(ctx context.Context, rel *catalog.Release) (*archive.Index, error) {
	held, at, err := e.indexes.Get(ctx, string(rel.Index.Digest), func(ctx context.Context) (heldIndex, error) { return e.askIndex(ctx, rel) })
	e.lookedUp(ctx, at)
	if err != nil {
		return nil, err
	}
	return held.of(rel)
}

// askIndex gets a release's index from peers.
func (e *Engine) askIndex(ctx context.Context, rel *catalog.Release) (heldIndex, error) {
	errand := e.errand(rel, rel.Index.Size)
	wants := []transfer.Want{{Digest: rel.Index.Digest, Size: rel.Index.Size}}
	data, _, err := e.fetcher.FetchBlobs(ctx, wants, archive.MaxIndexSize, errand.candidates)
	errand.finish(err)
	if err != nil {
		return heldIndex{}, err
	}
	ix, err := parseIndex(rel, data[0])
	if err != nil {
		return heldIndex{}, err
	}
	return heldIndex{ix, data[0]}, e.keepAll(ctx, rel, data...)
}

// errand prepares to fetch so many bytes of a release; finish it with the result.
func (e *Engine) errand(rel *catalog.Release, size int64) *errand {
	d := &errand{
		from: e.sources, bytes: size, nearby: e.node.Connected, started: e.now(),
		named: func(ctx context.Context) iter.Seq[peer.AddrInfo] {
			return e.providers(ctx, rel)
		},
	}
	for _, name := range e.holders.Peers(keyOf(rel)) {
		if p, err := peer.Decode(name); err == nil {
			d.holders = append(d.holders, p)
		}
	}
	return d
}

// explain tells the three ways apart in which content can be out of reach: no
// peer at all, nobody who has it, and those who have it failing.
func (e *Engine) explain(err error, rel *catalog.Release) error {
	typed := shared.AsError(err)
	if typed.Reason != shared.ReasonUnavailable {
		return named(err, "fetch %s %s", rel.Name, rel.Version)
	}
	if len(e.node.Connected()) == 0 {
		return shared.NewError(shared.ReasonNoPeers, "fetch %s %s: no peer is connected", rel.Name, rel.Version).WithHint("%s", connectHint)
	}
	return shared.NewError(shared.ReasonUnavailable, "%s %s is known, but no peer that is online holds its files: %w", rel.Name, rel.Version, err).
		WithHint("try again when its publisher (%s) or somebody who installed it is online", rel.Publisher.Short())
}
