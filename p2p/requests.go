package p2p

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

const (
	// maxRequestID bounds the ID by which a host makes a publish repeatable, in bytes.
	maxRequestID = 64

	// maxRequests and maxRequestAge bound what is remembered: about half a kilobyte
	// for each request. A host repeats within seconds.
	maxRequests   = 1000
	maxRequestAge = 24 * time.Hour
)

// bucketRequests is requests/<ID> → JSON of an executed.
var bucketRequests = []byte("requests")

// executed is a publish that happened. It lacks what packing the same content
// again tells as well.
type executed struct {
	Time   time.Time     `json:"time"`
	Digest shared.Digest `json:"digest"`
	// Answered is false from the release's transaction until everything else was
	// done: a crash came between, and the fields below are unknown.
	Answered    bool                `json:"answered,omitzero"`
	Unchanged   bool                `json:"unchanged,omitzero"`
	LogSize     int64               `json:"log_size,omitzero"`
	Announced   int                 `json:"announced,omitzero"`
	Recorded    int                 `json:"recorded,omitzero"`
	Diagnostics []shared.Diagnostic `json:"diagnostics,omitempty"`
}

// executedAs remembers a receipt; its first own diagnostics are those of packing.
func executedAs(receipt shared.PublishReceipt, own int, now time.Time) executed {
	return executed{
		Time: now, Digest: receipt.Digest, Answered: true, Unchanged: receipt.Unchanged, LogSize: receipt.LogSize,
		Announced: receipt.Announced, Recorded: receipt.Recorded, Diagnostics: slices.Clone(receipt.Diagnostics[own:]),
	}
}

// complete gives a receipt of the same content what the first one had.
func (d executed) complete(receipt *shared.PublishReceipt) {
	receipt.Unchanged, receipt.LogSize, receipt.Announced, receipt.Recorded = d.Unchanged, d.LogSize, d.Announced, d.Recorded
	receipt.Diagnostics = append(receipt.Diagnostics, d.Diagnostics...)
}

// requests knows the newest publishes by their IDs, so that each is executed once
// however often its ID comes: a host that lost the answer asks again, maybe after
// the engine was killed. It is safe for concurrent use.
type requests struct {
	db  *store.DB
	now func() time.Time

	mu      sync.Mutex               // guards the fields below; not held during I/O
	running map[string]chan struct{} // closed when the call has ended
	known   map[string]executed
	oldest  []string // the IDs of known, in the order of their times
}

// openRequests reads what is remembered. Entries that are damaged are forgotten:
// that a release is not made twice is the catalogue's promise anyway.
func openRequests(db *store.DB, log *slog.Logger) (*requests, error) {
	r := &requests{db: db, now: time.Now, running: map[string]chan struct{}{}, known: map[string]executed{}}
	err := db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketRequests)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(id, value []byte) error {
			var done executed
			if err := json.Unmarshal(value, &done); err != nil {
				log.Warn("a request that was executed is damaged", "id", string(id), "error", err)
			}
			r.known[string(id)] = done // of no time if it is damaged: it goes first
			r.oldest = append(r.oldest, string(id))
			return nil
		})
	})
	slices.SortFunc(r.oldest, func(a, b string) int {
		return cmp.Or(r.known[a].Time.Compare(r.known[b].Time), cmp.Compare(a, b))
	})
	return r, err
}

// begin waits until no call of this ID runs. The caller ends its own with end.
func (r *requests) begin(ctx context.Context, id string) (end func(), err error) {
	for {
		r.mu.Lock()
		other, busy := r.running[id]
		if !busy {
			mine := make(chan struct{})
			r.running[id] = mine
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				delete(r.running, id)
				close(mine)
			}, nil
		}
		r.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, shared.AsError(ctx.Err())
		}
	}
}

// find gives what is remembered of a request, which is nothing if it was not
// executed. Errors: INVALID_ARGUMENT if it was with other content.
func (r *requests) find(id string, digest shared.Digest) (executed, error) {
	r.mu.Lock()
	done, ok := r.known[id]
	r.mu.Unlock()
	switch {
	case !ok || r.now().Sub(done.Time) > maxRequestAge:
		return executed{}, nil
	case done.Digest != digest:
		return executed{}, shared.NewError(shared.ReasonInvalidArgument, "request %q was executed before with other content (%s, now %s)", id, done.Digest, digest).
			WithHint("only a repetition may use the ID of an earlier request: use a new one").
			With("published", string(done.Digest)).With("offered", string(digest))
	}
	return done, nil
}

// keep durably notes a request that was executed. Errors: STORAGE, STORAGE_FULL.
func (r *requests) keep(id string, done executed) error {
	var leaving []string
	err := r.db.Update(func(tx *bbolt.Tx) (err error) {
		leaving, err = r.note(tx, id, done)
		return err
	})
	if err == nil {
		r.remember(id, done, leaving)
	}
	return err
}

// note writes a request into a transaction, from which it removes those that are
// too old or too many. remember must follow when the transaction is through.
func (r *requests) note(tx *bbolt.Tx, id string, done executed) (leaving []string, err error) {
	bucket, err := tx.CreateBucketIfNotExists(bucketRequests)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(done)
	if err != nil {
		return nil, err
	}
	leaving = r.leaving()
	for _, old := range leaving {
		if err := bucket.Delete([]byte(old)); err != nil {
			return nil, err
		}
	}
	return leaving, bucket.Put([]byte(id), value)
}

// leaving are the requests that must go for another one to come.
func (r *requests) leaving() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := max(0, len(r.oldest)+1-maxRequests)
	for n < len(r.oldest) && r.now().Sub(r.known[r.oldest[n]].Time) > maxRequestAge {
		n++
	}
	return slices.Clone(r.oldest[:n])
}

func (r *requests) remember(id string, done executed, leaving []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range leaving {
		delete(r.known, old)
	}
	r.known[id] = done
	r.oldest = slices.DeleteFunc(r.oldest, func(other string) bool {
		_, stays := r.known[other]
		return !stays || other == id
	})
	r.oldest = append(r.oldest, id)
}
