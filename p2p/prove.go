package p2p

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Prove verifies a release anew, step by step; see [shared.Bundles].
func (e *Engine) Prove(ctx context.Context, ref shared.Ref, file string) (shared.Provenance, error) {
	if err := e.awaitLogs(ctx); err != nil {
		return shared.Provenance{}, named(err, "prove %s", ref)
	}
	pkg, err := e.choose(ctx, ref)
	if err != nil {
		return shared.Provenance{}, named(err, "prove %s", ref)
	}
	rel, err := pick(pkg, ref)
	if err != nil {
		return shared.Provenance{}, named(err, "prove %s", ref)
	}
	p := shared.Provenance{Name: rel.Name, Version: rel.Version, Publisher: rel.Publisher, Index: rel.Index.Digest, Archive: rel.Archive.Digest}
	if file != "" {
		err := e.store.Verify(ctx, rel.Index.Digest) // and not what is remembered of it
		var ix *archive.Index
		if err == nil {
			ix, err = e.readIndex(ctx, rel)
		}
		if err != nil {
			return p, shared.NewError(shared.ReasonUnavailable, "the list of files of %s@%s is not here: %w", rel.Name, rel.Version, err).
				WithHint("install the package first")
		}
		f, ok := ix.File(file)
		if !ok {
			return p, shared.NewError(shared.ReasonNotFound, "%s@%s has no file %s", rel.Name, rel.Version, file)
		}
		p.File = shared.FileInfo{Path: f.Path, Size: f.Size, Executable: f.Executable, Digest: f.Digest}
	}
	if err := e.proveEntry(&p, rel.Entry); err != nil {
		return p, named(err, "prove %s@%s", rel.Name, rel.Version)
	}
	if m := e.meaning(rel.Name, e.packagesOf(rel.Name)); m.publisher == rel.Publisher {
		p.Rule = m.rule
	}
	return p, nil
}

// proveEntry goes from the release's entry to the publisher's first root document,
// and believes nothing that was verified before.
func (e *Engine) proveEntry(p *shared.Provenance, at int64) error {
	chain, head, ok := e.catalog.Head(p.Publisher)
	if !ok {
		return shared.NewError(shared.ReasonNotFound, "the log of %s is not here", p.Publisher.Short())
	}
	entry, proof, err := e.catalog.Proof(p.Publisher, at)
	if err != nil {
		return err
	}
	wrong := func(err error) error {
		return shared.NewError(shared.ReasonIntegrity, "what this peer holds of %s does not verify: %w", p.Publisher.Short(), err)
	}
	if chain, err = publisher.ParseChain(chain.Signed()); err != nil {
		return wrong(err)
	}
	if head, err = publisher.OpenHead(head.Signed, chain, e.now()); err != nil {
		return wrong(err)
	}
	leaf := tlog.RecordHash(entry)
	if err := tlog.CheckRecord(proof, head.Size, head.Hash, at, leaf); err != nil {
		return wrong(err)
	}
	said, err := publisher.DecodeEntry(entry)
	switch {
	case err != nil:
		return wrong(err)
	case said.Release == nil || said.Release.Name != p.Name || said.Release.Version != p.Version ||
		said.Release.Archive.Digest != p.Archive || said.Release.Index.Digest != p.Index || chain.ID != p.Publisher:
		return wrong(fmt.Errorf("entry %d is about something else", at))
	}
	p.Entry, p.EntryHash, p.EntryTime, p.PathLength = at, digestOfHash(leaf), time.Unix(said.Time, 0).UTC(), len(proof)
	p.LogSize, p.LogHash, p.HeadTime = head.Size, digestOfHash(head.Hash), head.Time.UTC()
	for i, root := range chain.Roots {
		proven := shared.ProvenRoot{Version: root.Version, Digest: chain.DigestOf(i), Threshold: root.Threshold, Recovers: root.Recovers}
		for _, key := range root.Keys {
			proven.Keys = append(proven.Keys, base64.StdEncoding.EncodeToString(key))
		}
		p.Roots = append(p.Roots, proven)
	}
	return nil
}

func digestOfHash(h tlog.Hash) shared.Digest {
	return shared.Digest("sha256:" + hex.EncodeToString(h[:]))
}
