package catalog

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

const whyForked = "it signed two different logs"

// Fork is the portable proof that a publisher signed two different logs: two
// heads, and what the logs under them were when they had Size entries. Anybody can
// verify it without knowing anything of the publisher.
type Fork struct {
	Roots      [][]byte         `json:"roots"`
	First      []byte           `json:"first"`
	Second     []byte           `json:"second"`
	Size       int64            `json:"size"`
	FirstTree  publisher.Prefix `json:"first_tree"`
	SecondTree publisher.Prefix `json:"second_tree"`
}

// Verify checks the proof and names the publisher that it convicts. Errors:
// publisher.ErrInvalid, ErrStale.
func (f Fork) Verify() (shared.PublisherID, error) {
	_, chain, err := publisher.ReadFork(f.Roots, f.First, f.Second, f.Size, f.FirstTree, f.SecondTree)
	return chain.ID, err
}

// Forks lists the proofs this node holds.
func (c *Catalog) Forks() ([]Fork, error) {
	var forks []Fork
	err := c.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketForks)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, value []byte) error {
			var f Fork
			if err := json.Unmarshal(value, &f); err != nil {
				return err
			}
			forks = append(forks, f)
			return nil
		})
	})
	if err != nil {
		return nil, storageError(c.db, err)
	}
	return forks, nil
}

// Convict takes a proof that somebody else has found: the publisher is then
// quarantined here too, known or not. Errors: publisher.ErrInvalid, ErrStale when
// it was known before or a recovery has settled it, LIMIT_EXCEEDED, STORAGE.
func (c *Catalog) Convict(f Fork) (shared.PublisherID, error) {
	forked, chain, err := publisher.ReadFork(f.Roots, f.First, f.Second, f.Size, f.FirstTree, f.SecondTree)
	if err != nil {
		return "", err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, known := c.Quarantined(chain.ID); known {
		return chain.ID, publisher.ErrStale
	}
	if held, _, ok := c.Head(chain.ID); ok && forked.Forgiven(held) {
		return chain.ID, fmt.Errorf("%w: a recovery of %s has settled that", publisher.ErrStale, chain.ID.Short())
	}
	return chain.ID, c.quarantine(chain, forked)
}

// Quarantined tells whether nothing more is accepted from a publisher, and why.
func (c *Catalog) Quarantined(id shared.PublisherID) (why string, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	why, ok = c.accused[id]
	return why, ok
}

func (c *Catalog) quarantine(chain publisher.Chain, forked *publisher.EquivocationError) error {
	c.mu.RLock()
	count := len(c.accused)
	c.mu.RUnlock()
	if count >= MaxPublishers {
		return shared.NewError(shared.ReasonLimitExceeded, "%d publishers are quarantined; that is the limit", MaxPublishers)
	}
	proof, err := json.Marshal(Fork{
		Roots: chain.Signed(), First: forked.First.Signed, Second: forked.Second.Signed,
		Size: forked.Size, FirstTree: forked.FirstTree, SecondTree: forked.SecondTree,
	})
	if err != nil {
		return err
	}
	err = c.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketForks)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(chain.ID), proof)
	})
	if err != nil {
		return storageError(c.db, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accused[chain.ID] = whyForked
	return nil
}

func (c *Catalog) loadForks(forks *bbolt.Bucket) error {
	return forks.ForEach(func(id, proof []byte) error {
		if proof == nil || !shared.PublisherID(id).Complete() {
			return errors.New("the list of forks is damaged")
		}
		c.accused[shared.PublisherID(id)] = whyForked
		return nil
	})
}
