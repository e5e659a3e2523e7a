package scenario

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"

	"ggen.dev/marketplace/shared"
)

// dhtPut measures storing a head and announcing a provider, until all that are to keep
// the record have answered. The floor is the slowest of those.
func dhtPut(r *Run) {
	members, random := r.members(r.Scenario.Peers), r.random()
	for r.Loop() {
		m, a := members[random.IntN(len(members))], r.author()
		answers := r.answers(m, members, nil, sha256.Sum256([]byte(a.key())))
		r.Took("put-floor", answers[len(answers)-1])
		if !r.timed("put", func(ctx context.Context) bool {
			_, err := m.Routing().PutHead(ctx, a.id, a.head)
			return err == nil
		}) {
			r.Error("a head was not stored")
		}
		if !r.timed("provide", func(ctx context.Context) bool {
			_, err := m.Routing().Provide(ctx, shared.DigestOf([]byte(a.id)))
			return err == nil
		}) {
			r.Error("a provider was not stored")
		}
	}
}

// library is the part of the members that use kad-dht's own search, so that theirs has
// the connections that it would have.
const library = 4

// records are heads and providers that a network keeps.
type records struct {
	members  []*member // that live
	all      []*member
	dead     map[int]bool
	authors  []author
	provider []*member
	random   *rand.Rand
}

// store has random members store heads and announce content.
func (r *Run) store(members []*member, random *rand.Rand) *records {
	k := &records{members: members, all: members, dead: map[int]bool{}, random: random}
	for range min(max(len(members)/2, 20), 200) {
		a, m := r.author(), members[random.IntN(len(members))]
		if _, err := m.Routing().PutHead(r.Context(), a.id, a.head); err != nil {
			r.Fatal(err)
		}
		if _, err := m.Routing().Provide(r.Context(), shared.DigestOf([]byte(a.id))); err != nil {
			r.Fatal(err)
		}
		k.authors, k.provider = append(k.authors, a), append(k.provider, m)
	}
	return k
}

// pick chooses a record and a member that looks for it: one of a quarter of them for the
// library, one of the others for us, and never the one that stored it.
func (k *records) pick(ours bool) (m *member, record int) {
	border := len(k.members) / library
	for {
		record = k.random.IntN(len(k.authors))
		if m = k.members[k.random.IntN(border)]; ours {
			m = k.members[border+k.random.IntN(len(k.members)-border)]
		}
		if m != k.provider[record] {
			return m, record
		}
	}
}

// head looks for a head, with whatever connections there are and then once more, and has the
// library do so elsewhere.
func (r *Run) head(k *records) {
	m, i := k.pick(true)
	key := sha256.Sum256([]byte(k.authors[i].key()))
	for _, series := range []string{"head-cold", "head-warm"} {
		if floor := r.answers(m, k.all, k.dead, key); len(floor) > 0 {
			r.Took(series+"-floor", floor[0])
		}
		if !r.timed(series, func(ctx context.Context) bool {
			_, err := m.Routing().Head(ctx, k.authors[i].id)
			return err == nil
		}) {
			r.Errorf("a head was not found, %s", series)
		}
	}
	m, i = k.pick(false)
	r.timed("head-library", func(ctx context.Context) bool {
		found, err := m.DHT().SearchValue(ctx, k.authors[i].key())
		if err != nil {
			return false
		}
		_, ok := <-found
		return ok
	})
}

// providers looks for the provider of a blob in the same ways.
func (r *Run) providers(k *records) {
	m, i := k.pick(true)
	digest := shared.DigestOf([]byte(k.authors[i].id))
	hash := cidOf(digest).Hash()
	for _, series := range []string{"provider-cold", "provider-warm"} {
		if floor := r.answers(m, k.all, k.dead, sha256.Sum256(hash)); len(floor) > 0 {
			r.Took(series+"-floor", floor[0])
		}
		if !r.timed(series, func(ctx context.Context) bool {
			for info := range m.Routing().Providers(ctx, digest, 1) {
				return info.ID == k.provider[i].PeerID()
			}
			return false
		}) {
			r.Errorf("a provider was not found, %s", series)
		}
	}
	m, i = k.pick(false)
	r.timed("provider-library", func(ctx context.Context) bool {
		_, ok := <-m.DHT().FindProvidersAsync(ctx, cidOf(shared.DigestOf([]byte(k.authors[i].id))), 1)
		return ok
	})
}

// dhtGet measures how long heads are looked for.
func dhtGet(r *Run) {
	random := r.random()
	k := r.store(r.members(r.Scenario.Peers), random)
	for r.Loop() {
		r.head(k)
	}
}

// dhtLookup measures both kinds of lookups.
func dhtLookup(r *Run) {
	random := r.random()
	k := r.store(r.members(r.Scenario.Peers), random)
	for r.Loop() {
		r.head(k)
		r.providers(k)
	}
}
