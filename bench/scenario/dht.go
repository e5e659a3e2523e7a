package scenario

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"time"

	"ggen.dev/marketplace/p2p/p2ptest"
	"ggen.dev/marketplace/shared"
)

// dhtPut measures storing a head and announcing a provider, until all that are to keep
// the record have answered. The floor is the slowest of those.
func dhtPut(r *Run) {
	members, _ := r.members(r.Scenario.Peers)
	random := r.random()
	for r.Loop() {
		m, a := members[random.IntN(len(members))], r.author()
		answers, _ := r.answers(m, members, nil, sha256.Sum256([]byte(a.key())))
		r.Took("put-floor", answers[len(answers)-1])
		if _, ok := r.timed("put", func(ctx context.Context) bool {
			_, err := m.routing.PutHead(ctx, a.id, a.head)
			return err == nil
		}); !ok {
			r.Error("a head was not stored")
		}
		if _, ok := r.timed("provide", func(ctx context.Context) bool {
			_, err := m.routing.Provide(ctx, shared.DigestOf([]byte(a.id)))
			return err == nil
		}); !ok {
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
	given    *atlas // nil: tables fill by themselves
	dead     map[int]bool
	authors  []author
	provider []*member
	random   *rand.Rand
}

// records builds a network whose random members have stored heads and announced content.
func (r *Run) records(random *rand.Rand) *records {
	authors := make([]author, min(max(r.Scenario.Peers/2, 20), 200))
	for i := range authors { // before anything runs that draws from the same source of keys
		authors[i] = r.author()
	}
	members, given := r.members(r.Scenario.Peers)
	k := &records{members: members, all: members, given: given, dead: map[int]bool{}, random: random}
	for _, a := range authors {
		m := members[random.IntN(len(members))]
		if _, err := m.routing.PutHead(r.Context(), a.id, a.head); err != nil {
			r.Fatal(err)
		}
		if _, err := m.routing.Provide(r.Context(), shared.DigestOf([]byte(a.id))); err != nil {
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
		if m != k.provider[record] && !k.dead[k.provider[record].number] {
			return m, record
		}
	}
}

// head looks for a head, with whatever connections there are and then once more, and has the
// library do so elsewhere. It tells whether ours was found.
func (r *Run) head(k *records) (found bool) {
	found = true
	m, i := k.pick(true)
	key := sha256.Sum256([]byte(k.authors[i].key()))
	for _, series := range []string{"head-cold", "head-warm"} {
		floor, _ := r.answers(m, k.all, k.dead, key) // it asks others even if it keeps the head itself
		took, ok := r.timed(series, func(ctx context.Context) bool {
			_, err := m.routing.Head(ctx, k.authors[i].id)
			return err == nil
		})
		if len(floor) > 0 {
			r.Took(series+"-floor", floor[0])
			if ok {
				r.Took(series+"-beyond", took-floor[0]) // what a model of larger networks adds
			}
		}
		found = found && ok
	}
	m, i = k.pick(false)
	r.timed("head-library", func(ctx context.Context) bool {
		values, err := m.DHT().SearchValue(ctx, k.authors[i].key())
		if err != nil {
			return false
		}
		_, ok := <-values
		return ok
	})
	return found
}

// providers looks for the provider of a blob in the same ways.
func (r *Run) providers(k *records) (found bool) {
	found = true
	m, i := k.pick(true)
	digest := shared.DigestOf([]byte(k.authors[i].id))
	hash := cidOf(digest).Hash()
	for _, series := range []string{"provider-cold", "provider-warm"} {
		switch floor, keeps := r.answers(m, k.all, k.dead, sha256.Sum256(hash)); {
		case keeps:
			r.Took(series+"-floor", 0)
		case len(floor) > 0:
			r.Took(series+"-floor", floor[0])
		}
		_, ok := r.timed(series, func(ctx context.Context) bool {
			for info := range m.routing.Providers(ctx, digest, 1) {
				return info.ID == k.provider[i].PeerID()
			}
			return false
		})
		found = found && ok
	}
	m, i = k.pick(false)
	r.timed("provider-library", func(ctx context.Context) bool {
		_, ok := <-m.DHT().FindProvidersAsync(ctx, cidOf(shared.DigestOf([]byte(k.authors[i].id))), 1)
		return ok
	})
	return found
}

// dhtGet measures how long heads are looked for.
func dhtGet(r *Run) {
	random := r.random()
	k := r.records(random)
	missed := 0
	for r.Loop() {
		if !r.head(k) {
			missed++
		}
	}
	r.Report("missed", float64(missed))
}

// dhtLookup measures both kinds of lookups, when so many percent of the peers have vanished
// without a word.
func dhtLookup(percent int) func(r *Run) {
	return func(r *Run) {
		before := inUse()
		random := r.random()
		k := r.records(random)
		for range len(k.all) * percent / 100 {
			r.vanish(k, random.IntN(len(k.members)))
		}
		if percent > 0 {
			<-time.After(10 * time.Second)
		}
		missed := 0
		for r.Loop() {
			if !r.head(k) {
				missed++
			}
			if !r.providers(k) {
				missed++
			}
		}
		r.Report("missed", float64(missed))
		r.connections(k.members)
		if r.Scenario.Given {
			r.Report("MiB/peer", float64(inUse()-before)/float64(len(k.all))/(1<<20))
		}
	}
}

// connections reports how many connections a member has.
func (r *Run) connections(members []*member) {
	links := 0
	for _, m := range members {
		links += len(m.Connected())
	}
	r.Report("links/peer", float64(links)/float64(len(members)))
}

// vanish ends the connections of a living member as a crash does.
func (r *Run) vanish(k *records, i int) {
	m := k.members[i]
	k.members = slices.Delete(slices.Clone(k.members), i, i+1)
	k.dead[m.number] = true
	_ = m.Host().Network().Close() // a second end of it is reported when the member closes
}

// dhtChurn measures lookups while every minute 10 % of the peers vanish and as many join. A
// round is such a minute with a lookup of each kind every two seconds.
func dhtChurn(r *Run) {
	const step, share = 2 * time.Second, 10
	random := r.random()
	k := r.records(random)
	due, missed, lookups := 0.0, 0, 0
	for r.Loop() {
		for range int(time.Minute / step) {
			for due += float64(r.Scenario.Peers) / share / float64(time.Minute/step); due >= 1; due-- {
				r.vanish(k, random.IntN(len(k.members)))
				var known []string
				for range acquaintances {
					known = append(known, k.members[random.IntN(len(k.members))].Addresses()...)
				}
				newcomer := r.member(k.members[0].net, len(k.all), p2ptest.Identity(r), known, k.given)
				if k.given != nil {
					k.given.join(newcomer, random)
				}
				k.all, k.members = append(k.all, newcomer), append(k.members, newcomer)
			}
			for _, look := range []func(*records) bool{r.head, r.providers} {
				if lookups++; !look(k) {
					missed++
				}
			}
			<-time.After(step)
		}
	}
	r.Report("missed-%", float64(missed)*100/float64(lookups))
}
