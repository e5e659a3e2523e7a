package trust

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/shared"
)

// MaxCatalogues bounds how many catalogues a node follows.
const MaxCatalogues = 64

var bucketCatalogues = []byte("trust-catalogues")

// DB is where a [Shelf] keeps its catalogues.
type DB interface {
	View(read func(*bbolt.Tx) error) error
	Update(write func(*bbolt.Tx) error) error
}

// Shelf holds the catalogues that a node follows, durably. It is safe for
// concurrent use.
type Shelf struct {
	db  DB
	now func() time.Time

	writing sync.Mutex   // one change at a time
	mu      sync.RWMutex // guards followed; not held during I/O
	// followed is by the key of the entry in the store.
	followed map[string]issue
}

// issue is a catalogue that was verified.
type issue struct {
	catalogue shared.TrustCatalogue
	roots     int // documents in its signer's chain
}

// OpenShelf reads the catalogues of a store. Those that do not hold any more are left
// out and logged: names that they listed have to be trusted in another way.
func OpenShelf(db DB, log *slog.Logger) (*Shelf, error) {
	s := &Shelf{db: db, now: time.Now, followed: map[string]issue{}}
	err := db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketCatalogues)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(key, signed []byte) error {
			c, chain, err := Open(signed, s.now())
			if err != nil || shelfKey(c) != string(key) {
				log.Warn("a trust catalogue is damaged", "catalogue", string(key), "error", err)
				return nil
			}
			s.followed[string(key)] = issue{c, len(chain.Roots)}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the trust catalogues: %w", err)
	}
	return s, nil
}

// shelfKey is where a catalogue lies. Titles hold no line breaks.
func shelfKey(c shared.TrustCatalogue) string { return string(c.Signer) + "\n" + c.Title }

// List returns the catalogues by signer and title. Their names are shared: read only.
func (s *Shelf) List() []shared.TrustCatalogue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]shared.TrustCatalogue, 0, len(s.followed))
	for _, i := range s.followed {
		list = append(list, i.catalogue)
	}
	slices.SortFunc(list, func(a, b shared.TrustCatalogue) int {
		return cmp.Or(cmp.Compare(a.Signer, b.Signer), cmp.Compare(a.Title, b.Title))
	})
	return list
}

// Add follows a signed catalogue, or takes a newer issue of one that is followed. The
// same issue again changes nothing. Errors: those of [Open], UNTRUSTED for an older
// issue or one that is signed by keys that were changed since, LIMIT_EXCEEDED,
// STORAGE.
func (s *Shelf) Add(signed []byte) (shared.TrustCatalogue, error) {
	c, chain, err := Open(signed, s.now())
	if err != nil {
		return c, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	key := shelfKey(c)
	s.mu.RLock()
	held, known := s.followed[key]
	count := len(s.followed)
	s.mu.RUnlock()
	switch {
	case !known && count >= MaxCatalogues:
		return c, shared.NewError(shared.ReasonLimitExceeded, "%d catalogues are followed; that is the limit", count).
			WithHint("remove one: `ggen marketplace trust catalogue remove SIGNER TITLE`")
	case known && (c.Serial < held.catalogue.Serial || len(chain.Roots) < held.roots):
		return c, shared.NewError(shared.ReasonUntrusted, "issue %d of %q is older than issue %d, which is here already", c.Serial, c.Title, held.catalogue.Serial).
			WithHint("somebody may be trying to bring back an old list; ask its signer for the newest")
	case known && c.Serial == held.catalogue.Serial:
		if !slices.Equal(c.Names, held.catalogue.Names) {
			return c, shared.NewError(shared.ReasonUntrusted, "there are two different issues %d of %q by %s", c.Serial, c.Title, c.Signer.Short()).
				WithHint("its signer must give the changed list a higher serial number")
		}
		return held.catalogue, nil
	}
	if err := s.write(key, signed); err != nil {
		return c, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed[key] = issue{c, len(chain.Roots)}
	return c, nil
}

// Remove stops following a catalogue; signer is an ID or the beginning of one.
// Errors: NOT_FOUND, AMBIGUOUS, STORAGE.
func (s *Shelf) Remove(signer shared.PublisherID, title string) (shared.TrustCatalogue, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	var found []shared.TrustCatalogue
	for _, c := range s.List() {
		if strings.HasPrefix(string(c.Signer), string(signer)) && c.Title == title {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return shared.TrustCatalogue{}, shared.NewError(shared.ReasonNotFound, "no catalogue %q of a signer %s is followed", title, signer).
			WithHint("`ggen marketplace trust catalogue list` shows them")
	case 1:
	default:
		return shared.TrustCatalogue{}, shared.NewError(shared.ReasonAmbiguous, "%d signers whose IDs begin with %s have a catalogue %q", len(found), signer, title).
			WithHint("give more digits of the signer's ID")
	}
	key := shelfKey(found[0])
	if err := s.write(key, nil); err != nil {
		return found[0], err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.followed, key)
	return found[0], nil
}

// write stores a signed catalogue, or removes it.
func (s *Shelf) write(key string, signed []byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketCatalogues)
		if err != nil {
			return err
		}
		if signed == nil {
			return bucket.Delete([]byte(key))
		}
		return bucket.Put([]byte(key), signed)
	})
	if err != nil {
		return shared.NewError(shared.ReasonStorage, "write the trust catalogues: %w", err)
	}
	return nil
}

// Listed returns the catalogues that list a name, by signer and title.
func (s *Shelf) Listed(name string) (by []shared.TrustCatalogue, publishers []shared.PublisherID) {
	for _, c := range s.List() {
		i, ok := slices.BinarySearchFunc(c.Names, name, func(n shared.CatalogueName, name string) int { return cmp.Compare(n.Name, name) })
		if !ok {
			continue
		}
		by = append(by, c)
		if !slices.Contains(publishers, c.Names[i].Publisher) {
			publishers = append(publishers, c.Names[i].Publisher)
		}
	}
	return by, publishers
}
