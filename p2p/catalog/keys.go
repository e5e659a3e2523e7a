package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// owned is the own log as the keyring is to go on with it.
type owned struct {
	log  publisher.Log
	mark publisher.Mark
	held publisher.Chain // as it is stored
	cut  bool            // what is stored behind log is void
}

// own holds the stored log of the keyring's publisher against its root documents.
// Errors: UNTRUSTED when the documents contradict each other, or the log has forked;
// STORAGE.
func (c *Catalog) own(ring *publisher.Keyring) (owned, error) {
	chain := ring.Chain()
	l, why, _ := c.log(chain.ID)
	o := owned{log: l, held: l.Chain}
	var err error
	if o.mark, err = ring.Mark(chain.ID); err != nil {
		return owned{}, err
	}
	if why != "" {
		if o.cut, err = c.forgiven(chain); err != nil {
			return owned{}, err
		}
		if !o.cut {
			return owned{}, shared.NewError(shared.ReasonUntrusted, "this publisher's log has forked (%s): nobody accepts more from it", why).
				WithHint("the key was used from two copies of one home, or stolen: `ggen marketplace key recover` settles it if there is a recovery key; else make a new publisher key")
		}
	}
	if l.Chain.ID == "" || chain.Common(l.Chain) == len(chain.Roots) && chain.Continues(l.Chain) {
		return o, nil
	}
	keep, replaces := chain.Replaces(l.Chain)
	if !replaces {
		return owned{}, shared.NewError(shared.ReasonUntrusted, "the newest keys of your publisher are not those in this home: root document %d of them came from the network", len(l.Chain.Roots)).
			WithHint("if you changed keys in another home, `key export` there and `key import` here; if it was not you, your key is stolen: `ggen marketplace key recover`")
	}
	if o.log, err = publisher.Rebase(l, chain); err != nil {
		return owned{}, err
	}
	if o.log.Size != keep.Size {
		return owned{}, logMissing("the first %d entries of your log, on which your newest keys build, are not here", keep.Size)
	}
	if o.log.Size < l.Size || o.log.Size < o.mark.Size { // what was signed behind that is void
		o.cut = true
		o.mark = publisher.Mark{Publisher: chain.ID, Size: o.log.Size, Hash: o.log.Head.Hash}
		err = ring.SetMark(o.mark)
	}
	return o, err
}

// withRoots adds an entry for each root document that the stored log has not heard of.
// A log that nothing was stated in needs none.
func (c *Catalog) withRoots(entries [][]byte, chain publisher.Chain, o owned) ([][]byte, error) {
	if o.held.ID == "" {
		return entries, nil
	}
	said := map[int]bool{}
	for _, raw := range entries {
		if e, err := publisher.DecodeEntry(raw); err == nil && e.Root != nil {
			said[e.Root.Version] = true
		}
	}
	for i := chain.Common(o.held); i < len(chain.Roots); i++ {
		if said[i+1] {
			continue
		}
		raw, err := publisher.Entry{
			Kind: publisher.KindRoot, Publisher: chain.ID, Time: c.clock().Unix(),
			Root: &publisher.RootRef{Version: i + 1, Digest: chain.DigestOf(i)},
		}.Encode()
		if err != nil {
			return nil, err
		}
		entries = append(entries, raw)
	}
	return entries, nil
}

// Renew brings the own log up to the keyring's root documents, after they changed or
// after a crash in between, and signs a beacon when its head is older than half of
// [publisher.HeadLifetime]. There is no update if neither is due. Errors: UNTRUSTED,
// STORAGE, STORAGE_FULL.
func (c *Catalog) Renew(ring *publisher.Keyring) (u *publisher.Update, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	chain := ring.Chain()
	l, _, _ := c.log(chain.ID)
	if l.Chain.ID == "" || l.Size == 0 && l.Head.Size == 0 {
		return nil, nil
	}
	due := c.clock().Sub(l.Head.Time) > publisher.HeadLifetime/2
	if !due && chain.Common(l.Chain) == len(chain.Roots) {
		return nil, nil
	}
	_, u, err = c.sign(ring, nil, func([][]byte) (bool, error) { return false, nil }, nothing)
	return u, err
}

// Line is an entry of a log in words.
type Line struct {
	Entry int64
	Time  time.Time // the publisher's clock
	Text  string
}

// Lines tells what the entries of a log state, from one on; at most most of them.
// Errors: NOT_FOUND, STORAGE.
func (c *Catalog) Lines(id shared.PublisherID, from int64, most int) (lines []Line, err error) {
	l, _, _ := c.log(id)
	if l.Chain.ID == "" {
		return nil, shared.NewError(shared.ReasonNotFound, "the log of %s is not held", id.Short())
	}
	for at := from; at < l.Size && len(lines) < most; {
		entries, err := c.entries(l, at, publisher.MaxUpdateSize)
		if err != nil {
			return nil, storageError(c.db, err)
		}
		for _, raw := range entries[:min(len(entries), most-len(lines))] {
			e, err := publisher.DecodeEntry(raw)
			if err != nil {
				return nil, storageError(c.db, err)
			}
			lines = append(lines, Line{Entry: at, Time: time.Unix(e.Time, 0), Text: inWords(e)})
			at++
		}
	}
	return lines, nil
}

func inWords(e publisher.Entry) string {
	switch {
	case e.Release != nil:
		return fmt.Sprintf("release %s@%s", e.Release.Name, e.Release.Version)
	case e.Yank != nil:
		return fmt.Sprintf("%s %s@%s", e.Kind, e.Yank.Name, e.Yank.Version)
	case e.Advice != nil && e.Advice.Undo:
		return "undeprecate " + e.Advice.Name
	case e.Advice != nil:
		return "deprecate " + e.Advice.Name
	case e.Root != nil:
		return fmt.Sprintf("root document %d", e.Root.Version)
	}
	return string(e.Kind)
}

// KeepAt is the state of a log when it had size entries, for a recovery. Errors:
// NOT_FOUND when fewer are here, STORAGE.
func (c *Catalog) KeepAt(id shared.PublisherID, size int64) (publisher.Keep, error) {
	l, _, _ := c.log(id)
	if size < 0 || size > l.Size {
		return publisher.Keep{}, shared.NewError(shared.ReasonNotFound, "%d entries of your log are here, not %d", l.Size, size)
	}
	hash, err := publisher.TreeHash(l, nil, size)
	return publisher.Keep{Size: size, Hash: hash}, err
}

// extend verifies an update against what of the log stands under chain.
func (c *Catalog) extend(old publisher.Log, chain publisher.Chain, u publisher.Update) (base publisher.Log, ext publisher.Extension, err error) {
	if base, err = publisher.Rebase(old, chain); err != nil {
		return old, ext, err
	}
	ext, err = publisher.Extend(base, u, c.clock())
	if _, replaces := chain.Replaces(old.Chain); replaces && errors.Is(err, publisher.ErrDivergent) {
		base = publisher.Nothing(old, chain)
		ext, err = publisher.Extend(base, u, c.clock())
	}
	return base, ext, err
}

// cut removes what is stored behind base, because of the keys in an update whose
// entries do not follow yet.
func (c *Catalog) cut(old, base publisher.Log, u publisher.Update) (Change, error) {
	head, err := publisher.OpenHead(u.Head, base.Chain, c.clock())
	if err != nil {
		return Change{}, err
	}
	if head.Size < base.Size || head.Size == base.Size && head.Hash != base.Head.Hash {
		return Change{}, fmt.Errorf("%w: the head of %s does not have what its keys let stand", publisher.ErrInvalid, base.Chain.ID.Short())
	}
	ext := publisher.Extension{Log: base}
	ext.Log.Head = head
	_, touched, err := c.store(base, ext, true, nothing)
	return Change{Publisher: old.Chain.ID, Packages: touched}, err
}

// Contradicts tells whether a head is of another log than the one that is held, as
// far as the sizes let one see it.
func (c *Catalog) Contradicts(head HeadRef) bool {
	l, _, _ := c.log(head.Publisher)
	switch {
	case l.Chain.ID == "" || head.Size > l.Head.Size:
		return false
	case head.Size == l.Head.Size:
		return head.Hash != l.Head.Hash
	case head.Size > l.Size || head.Size == 0:
		return false
	}
	ours, err := publisher.TreeHash(l, nil, head.Size)
	return err == nil && ours != head.Hash
}

// Refused tells whether this is the head of a log that contradicts the held one and
// was not taken when it came last.
func (c *Catalog) Refused(head HeadRef) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.refused[head.Publisher] == head
}

// refuse notes the head of an update that was not taken, if it is one that would be
// asked for again and again.
func (c *Catalog) refuse(chain publisher.Chain, u publisher.Update) {
	head, err := publisher.OpenHead(u.Head, chain, c.clock())
	if err != nil {
		return
	}
	ref := HeadRef{Publisher: chain.ID, Size: head.Size, Hash: head.Hash}
	if _, out := c.Quarantined(chain.ID); !out && !c.Contradicts(ref) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[chain.ID] = ref
}

// forgiven tells whether a chain has settled by a recovery what its publisher is
// quarantined for.
func (c *Catalog) forgiven(chain publisher.Chain) (bool, error) {
	forks, err := c.Forks()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(forks, func(f Fork) bool {
		forked, accused, err := publisher.ReadFork(f.Roots, f.First, f.Second, f.Size, f.FirstTree, f.SecondTree)
		return err == nil && accused.ID == chain.ID && forked.Forgiven(chain)
	})
	return i >= 0, nil
}

// truncate removes what is stored behind the first size entries of a log, and the
// conviction of its publisher.
func truncate(tx *bbolt.Tx, b logBucket, id shared.PublisherID, size int64) error {
	if forks := tx.Bucket(bucketForks); forks != nil {
		if err := forks.Delete([]byte(id)); err != nil {
			return err
		}
	}
	return errors.Join(removeFrom(b.entries, indexKey(size)), removeFrom(b.hashes, indexKey(tlog.StoredHashCount(size))))
}

func removeFrom(bucket *bbolt.Bucket, from []byte) error {
	cursor := bucket.Cursor()
	for key, _ := cursor.Seek(from); key != nil; key, _ = cursor.Seek(from) {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
