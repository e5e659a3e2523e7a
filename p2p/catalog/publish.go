package catalog

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Publish appends a release to the log of the keyring's publisher. Publishing the same content again returns the release that is there and no
// update. The caller may tell others only after Publish has returned.
//
// What is signed is noted beside the keys first, see [publisher.Mark]. If the log
// that is stored here is older than that, Publish refuses with STORAGE until the
// newer part has come back from a peer by [Catalog.Apply]; the part of a crash is
// made up for by itself.
//
// Errors: VERSION_EXISTS, INVALID_MANIFEST, UNTRUSTED (the log has forked, or the
// keys are not the newest, or too few), LIMIT_EXCEEDED, STORAGE, STORAGE_FULL.
func (c *Catalog) Publish(ring *publisher.Keyring, body publisher.Release) (rel *Release, u *publisher.Update, err error) {
	return c.PublishWith(ring, body, func(*bbolt.Tx) error { return nil })
}

// PublishWith is Publish, and also writes in the transaction that makes the release
// durable. also is not called when the release is there already.
func (c *Catalog) PublishWith(ring *publisher.Keyring, body publisher.Release, also func(*bbolt.Tx) error) (rel *Release, u *publisher.Update, err error) {
	id := ring.ID()
	c.writing.Lock()
	defer c.writing.Unlock()
	entry, err := c.encode(id, body)
	if err != nil {
		return nil, nil, err
	}
	if existing := c.Release(body.Name, id, body.Version); existing != nil {
		return existing, nil, sameContent(existing.Release, body)
	}
	lost := func(entries [][]byte) (bool, error) { return findRelease(entries, body) }
	_, update, err := c.sign(ring, entry, lost, also)
	if err != nil {
		return nil, nil, err
	}
	return c.Release(body.Name, id, body.Version), update, nil
}

// Declare appends a statement about a package that was released before to the log
// of the keyring's publisher; entry has no publisher and time yet. What
// holds already is not stated again: then there is no update. size is that of the
// log that contains it.
//
// Errors: NOT_FOUND, INVALID_ARGUMENT, UNTRUSTED as for Publish, LIMIT_EXCEEDED,
// STORAGE, STORAGE_FULL.
func (c *Catalog) Declare(ring *publisher.Keyring, entry publisher.Entry) (size int64, u *publisher.Update, err error) {
	id := ring.ID()
	c.writing.Lock()
	defer c.writing.Unlock()
	holds, err := c.holds(id, entry)
	if err != nil {
		return 0, nil, err
	}
	if holds {
		return c.Held(id), nil, nil
	}
	entry.Publisher, entry.Time = id, c.clock().Unix()
	raw, err := entry.Encode()
	if err != nil {
		return 0, nil, shared.NewError(shared.ReasonInvalidArgument, "that cannot be stated: %w", err)
	}
	l, update, err := c.sign(ring, raw, func([][]byte) (bool, error) { return false, nil }, nothing)
	return l.Size, update, err
}

// nothing is written besides.
func nothing(*bbolt.Tx) error { return nil }

// holds tells whether a statement says nothing new. Errors: NOT_FOUND when it is
// about what was never released.
func (c *Catalog) holds(id shared.PublisherID, e publisher.Entry) (bool, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e.Yank != nil {
		releases := c.packages[e.Yank.Name][id]
		i := position(releases, e.Yank.Version)
		if i < 0 {
			return false, notReleased(e.Yank.Name, e.Yank.Version, releases)
		}
		return releases[i].Yanked == (e.Kind == publisher.KindYank), nil
	}
	releases := c.packages[e.Advice.Name][id]
	if len(releases) == 0 {
		return false, notReleased(e.Advice.Name, "", nil)
	}
	known := c.advice[e.Advice.Name][id]
	if e.Advice.Undo || known == nil {
		return e.Advice.Undo && known == nil, nil
	}
	return known.Successor == e.Advice.Successor && known.Why == e.Advice.Why, nil
}

func notReleased(name, version string, releases []*Release) error {
	if len(releases) == 0 {
		return shared.NewError(shared.ReasonNotFound, "you have released no package %s", name).
			WithHint("only its publisher can state something about a package: the one whose key is in this home")
	}
	return shared.NewError(shared.ReasonNotFound, "you have not released %s %s; the newest is %s", name, version, releases[0].Version).
		WithHint("`ggen marketplace info %s` shows the versions", name)
}

// sign appends an entry, if there is one, to the own log, behind those that a crash
// has kept from it and those that say which keys sign from now on; lost tells whether
// the entry is among the former.
func (c *Catalog) sign(ring *publisher.Keyring, entry []byte, lost func([][]byte) (bool, error), also func(*bbolt.Tx) error) (publisher.Log, *publisher.Update, error) {
	fail := func(err error) (publisher.Log, *publisher.Update, error) { return publisher.Log{}, nil, err }
	o, err := c.own(ring)
	if err != nil {
		return fail(err)
	}
	if err := intact(o.log); err != nil {
		return fail(err)
	}
	entries, err := unstored(o.log, o.mark)
	if err != nil {
		return fail(err)
	}
	found, err := lost(entries)
	if err != nil {
		return fail(err)
	}
	if entries, err = c.withRoots(entries, ring.Chain(), o); err != nil {
		return fail(err)
	}
	if !found && entry != nil {
		entries = append(entries, entry)
	}
	if o.log.Size+int64(len(entries)) > publisher.MaxLogSize {
		return fail(shared.NewError(shared.ReasonLimitExceeded, "your log has %d entries; that is the limit", o.log.Size).
			WithHint("make a new publisher key"))
	}
	ext, update, err := publisher.Append(ring, o.log, entries, c.clock())
	if err != nil {
		return fail(err)
	}
	if err := c.storeMarked(ring, o, ext, also); err != nil {
		return fail(err)
	}
	return ext.Log, &update, nil
}

func (c *Catalog) encode(id shared.PublisherID, body publisher.Release) ([]byte, error) {
	entry, err := publisher.Entry{Kind: publisher.KindRelease, Publisher: id, Time: c.clock().Unix(), Release: &body}.Encode()
	if err != nil {
		return nil, shared.NewError(shared.ReasonInvalidManifest, "%s %s cannot be stated: %w", body.Name, body.Version, err)
	}
	return entry, nil
}

// sameContent refuses another content for a version that was published before.
func sameContent(existing, offered publisher.Release) error {
	if existing.Archive.Digest == offered.Archive.Digest {
		return nil
	}
	return shared.NewError(shared.ReasonVersionExists, "%s %s was published before with other content", existing.Name, existing.Version).
		WithHint("a release never changes: raise the version in the manifest").
		With("published", string(existing.Archive.Digest)).With("offered", string(offered.Archive.Digest))
}

// intact refuses to sign on top of a log that is not all here, or is damaged.
func intact(l publisher.Log) error {
	if !l.Complete() {
		return logMissing("%d of the %d entries of your log are here", l.Size, l.Head.Size)
	}
	if l.Size == 0 {
		return nil
	}
	hash, err := publisher.TreeHash(l, nil, l.Size)
	if err == nil && hash != l.Head.Hash {
		err = shared.NewError(shared.ReasonStorage, "the stored log of %s is damaged: its hashes are not those that were signed", l.Chain.ID).
			WithHint("move the database away, connect to peers, and publish when your log has come back; pins are lost")
	}
	return err
}

// unstored lists the entries that the key has signed and the log lacks, because of
// a crash between the two. Errors: STORAGE if more than that is missing.
func unstored(old publisher.Log, mark publisher.Mark) ([][]byte, error) {
	var entries [][]byte
	missing := mark.Size - old.Size
	switch {
	case mark.Size == 0:
		return nil, nil // nothing was signed since marks are kept
	case missing > int64(len(mark.Entries)):
		return nil, logMissing("your log has %d entries here, and your key has signed %d", old.Size, mark.Size)
	case missing > 0:
		entries = slices.Clone(mark.Entries[int64(len(mark.Entries))-missing:])
	}
	hash, err := publisher.TreeHash(old, entries, mark.Size)
	if err != nil {
		return nil, err
	}
	if hash != mark.Hash {
		return nil, shared.NewError(shared.ReasonStorage, "the log that is stored here is not the one that your key has signed: they differ within the first %d entries", mark.Size).
			WithHint("the key was used from two copies of one home; keep the copy that published last and remove the other")
	}
	return entries, nil
}

// logMissing refuses to sign a log that would contradict what the key has signed.
func logMissing(format string, args ...any) error {
	err := shared.NewError(shared.ReasonStorage, "publishing now would contradict your earlier releases: %s", fmt.Sprintf(format, args...)).
		WithHint("the log has to come back from a peer first: connect (`ggen marketplace p2p bootstrap ADDRESS`), let it sync, then publish again")
	err.Retryable = true
	return err
}

// findRelease tells whether the entries state the release already.
func findRelease(entries [][]byte, body publisher.Release) (bool, error) {
	for _, raw := range entries {
		e, err := publisher.DecodeEntry(raw)
		if err != nil {
			return false, shared.NewError(shared.ReasonStorage, "the mark of the publisher key: %w", err)
		}
		if e.Release != nil && e.Release.Name == body.Name && e.Release.Version == body.Version {
			return true, sameContent(*e.Release, body)
		}
	}
	return false, nil
}

// storeMarked stores what was signed, after noting it beside the key. When storing
// fails, nobody can have seen what was signed, and the note is taken back.
func (c *Catalog) storeMarked(ring *publisher.Keyring, o owned, ext publisher.Extension, also func(*bbolt.Tx) error) error {
	head := ext.Log.Head
	if err := ring.SetMark(publisher.Mark{Publisher: head.Publisher, Size: head.Size, Hash: head.Hash, Entries: ext.Raw}); err != nil {
		return err
	}
	if _, _, err := c.store(o.log, ext, o.cut, also); err != nil {
		o.mark.Publisher = head.Publisher
		return errors.Join(err, ring.SetMark(o.mark))
	}
	return nil
}
