package reputation_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/reputation"
)

// openDB opens a database that is closed with the test.
func openDB(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func open(t testing.TB, db reputation.DB) *reputation.Book {
	t.Helper()
	k, err := reputation.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wait(d time.Duration) { <-time.After(d) } // virtual

func TestScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		for _, part := range k.Score("stranger").Parts() {
			if math.Abs(part.Value-0.5) > 1e-9 {
				t.Fatalf("a stranger has %+v", part)
			}
		}
		k.Observe("good", reputation.Success, 1<<20, time.Second, 10*time.Millisecond)
		k.Observe("bad", reputation.Stalled, 0, 0, 0)
		k.Observe("absent", reputation.Absent, 0, 0, 0)
		good, bad, absent := k.Score("good").Total, k.Score("bad").Total, k.Score("absent").Total
		if good <= absent || bad >= 0.5 || absent < 0.5 || absent > 0.55 {
			t.Fatalf("good %v, bad %v, absent %v", good, bad, absent)
		}
		wait(24 * time.Hour)
		if after := k.Score("bad").Total; after <= bad || after >= 0.5 {
			t.Fatalf("a day later a failure counts %v, before %v", after, bad)
		}
		wait(365 * 24 * time.Hour)
		for _, id := range []string{"good", "bad", "absent"} {
			if s := k.Score(id).Total; math.Abs(s-0.5) > 0.001 {
				t.Errorf("after a year %s has %v and is no stranger", id, s)
			}
		}
	})
}

// TestWeights: the parts make the whole, and the weights sum to 1.
func TestWeights(t *testing.T) {
	k := reputation.New()
	k.Observe("p", reputation.Success, 1<<20, time.Second, 10*time.Millisecond)
	sum, total := 0.0, 0.0
	for _, part := range k.Score("p").Parts() {
		sum += part.Weight
		total += part.Weight * part.Value
	}
	if math.Abs(sum-1) > 1e-9 || math.Abs(total-k.Score("p").Total) > 1e-9 {
		t.Fatalf("weights of %v, parts of %v and a total of %v", sum, total, k.Score("p").Total)
	}
}

func TestBans(t *testing.T) {
	for outcome, term := range map[reputation.Outcome]time.Duration{
		reputation.Flooded: 5 * time.Minute, reputation.Malformed: 30 * time.Minute, reputation.WrongContent: time.Hour,
	} {
		t.Run(outcome.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := openDB(t)
				k := open(t, db)
				for range 1000 {
					k.Observe("liar", reputation.Success, 1<<20, time.Millisecond, time.Millisecond)
				}
				if !k.Observe("liar", outcome, 0, 0, 0) || !k.Banned("liar") || k.Score("liar").Total != 0 || len(k.Rank([]string{"liar", "other"})) != 1 {
					t.Fatal("a good past protects a liar")
				}
				if err := k.Save(); err != nil {
					t.Fatal(err)
				}
				k = open(t, db)
				if r, _ := k.Get("liar"); !k.Banned("liar") || r.BannedFor != outcome {
					t.Fatalf("a restart forgives: %+v", r)
				}
				wait(term - time.Second)
				if !k.Banned("liar") {
					t.Fatal("the ban ends too soon")
				}
				wait(2 * time.Second)
				if k.Banned("liar") {
					t.Fatal("the ban does not end")
				}
			})
		})
	}
}

// TestAShorterBanDoesNotEndALongerOne, or a liar would flood to come back.
func TestAShorterBanDoesNotEndALongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		k.Observe("liar", reputation.WrongContent, 0, 0, 0)
		k.Observe("liar", reputation.Flooded, 0, 0, 0)
		wait(reputation.BanMalformed)
		if !k.Banned("liar") {
			t.Fatal("flooding has ended the ban for lies")
		}
	})
}

// TestWhoeverTurnsBadFallsFast: three failures put a peer with the best past below a
// stranger, and each of them gives it a rest.
func TestWhoeverTurnsBadFallsFast(t *testing.T) {
	k := reputation.New()
	for range 1000 {
		k.Observe("p", reputation.Success, 0, 0, 0)
	}
	for range 3 {
		k.Observe("p", reputation.Stalled, 0, 0, 0)
		if !k.Expect("p").Rests {
			t.Error("it is asked again at once")
		}
	}
	if got := k.Expect("p").Confidence; got >= 0.5 {
		t.Fatalf("after three failures it is still trusted with %v", got)
	}
}

// TestWhoeverDeliversAndThenFailsHasFailed: of such a download, transfers tell both.
func TestWhoeverDeliversAndThenFailsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		wait(time.Minute)
		k.Observe("p", reputation.Stalled, 0, 0, 0)
		k.Observe("p", reputation.Success, 1<<20, 10*time.Second, time.Millisecond)
		if e := k.Expect("p"); !e.Rests || e.Confidence >= 0.5 || e.Pace == 0 {
			t.Fatalf("expected of it: %+v", e)
		}
		wait(time.Minute)
		k.Observe("p", reputation.Success, 1<<20, 10*time.Second, time.Millisecond)
		if e := k.Expect("p"); e.Rests || e.Confidence <= 0.4 {
			t.Fatalf("a later success does not count: %+v", e)
		}
	})
}

func TestRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		for _, rest := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			k.Observe("p", reputation.Unreachable, 0, 0, 0)
			wait(rest - time.Second)
			if !k.Expect("p").Rests {
				t.Fatalf("its rest of %s ends too soon", rest)
			}
			wait(2 * time.Second)
			if k.Expect("p").Rests {
				t.Fatalf("its rest of %s does not end", rest)
			}
		}
		k.Observe("p", reputation.Success, 0, 0, 0)
		if r, _ := k.Get("p"); r.Streak != 0 || k.Expect("p").Rests {
			t.Fatal("a success does not end it")
		}
	})
}

func TestMeasurements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		for range 10 {
			k.Observe("p", reputation.Success, 1<<20, 1100*time.Millisecond, 100*time.Millisecond)
		}
		if r, _ := k.Get("p"); r.Response != 100*time.Millisecond || math.Abs(r.Bandwidth()-1<<20) > 1 {
			t.Fatalf("measured %v and %v", r.Response, r.Bandwidth())
		}
		k.Observe("p", reputation.Success, 1<<10, time.Second, 100*time.Millisecond) // over with the round trip
		if r, _ := k.Get("p"); math.Abs(r.Bandwidth()-1<<20) > 1 {
			t.Fatalf("a small delivery has changed the bandwidth to %v", r.Bandwidth())
		}
		k.Observe("p", reputation.Success, 1<<20, 20*time.Second, 100*time.Millisecond)
		if r, _ := k.Get("p"); r.Bandwidth() > 1<<20/4 {
			t.Fatalf("after one delivery at a twentieth of the rate %v are expected", r.Bandwidth())
		}
		if r, _ := k.Get("p"); r.Bytes != 11<<20+1<<10 || r.Counts.ByName()["delivered"] != 12 {
			t.Fatalf("counted %d bytes, %v", r.Bytes, r.Counts.ByName())
		}
	})
}

func TestOutrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		k.Outrun("slow", 1<<18, time.Second)
		if e := k.Expect("slow"); math.Abs(e.Pace-1.0/(1<<18)) > 1e-9 || e.Confidence != 0.5 {
			t.Fatalf("of a stranger that was outrun %+v is expected", e)
		}
		k.Outrun("slow", 1<<18, 10*time.Millisecond) // which says nothing
		if e := k.Expect("slow"); math.Abs(e.Pace-1.0/(1<<18)) > 1e-9 {
			t.Fatalf("it has become faster: %+v", e)
		}
		k.Outrun("far", 1<<10, time.Second)
		if e := k.Expect("far"); e.Response != time.Second || e.Pace != 0 {
			t.Fatalf("small content says %+v", e)
		}
		k.Observe("absent", reputation.Absent, 0, 0, 0)
		wait(500 * time.Millisecond)
		k.Outrun("absent", 1<<18, time.Second)
		if e := k.Expect("absent"); e.Pace != 0 {
			t.Fatalf("one that has answered in time was not outrun: %+v", e)
		}
	})
}

func TestRankPutsTheBestFirst(t *testing.T) {
	k := reputation.New()
	k.Observe("slow", reputation.Success, 1<<18, time.Second, 500*time.Millisecond)
	k.Observe("fast", reputation.Success, 1<<20, 10*time.Millisecond, time.Millisecond)
	k.Observe("failing", reputation.Disconnected, 0, 0, 0)
	k.Observe("failing", reputation.Disconnected, 0, 0, 0)
	if got := k.Rank([]string{"failing", "stranger", "slow", "fast"}); !slices.Equal(got, []string{"fast", "stranger", "slow", "failing"}) && !slices.Equal(got, []string{"fast", "slow", "stranger", "failing"}) {
		t.Fatalf("ranked %v", got)
	}
}

// TestTheBookIsBounded: strangers give way first, then those of whom little is known;
// bans stay, unless they are half of the book.
func TestTheBookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t)
		k := open(t, db)
		k.Observe("liar", reputation.WrongContent, 0, 0, 0)
		k.Observe("friend", reputation.Success, 1<<20, time.Second, time.Millisecond)
		for i := range 2 * reputation.MaxPeers {
			k.Seen(fmt.Sprint("p", i))
			if i%1000 == 0 {
				wait(time.Second)
			}
		}
		all := k.Peers()
		if len(all) > reputation.MaxPeers || !slices.Contains(all, "liar") || !slices.Contains(all, "friend") ||
			slices.Contains(all, "p0") || !slices.Contains(all, fmt.Sprint("p", 2*reputation.MaxPeers-1)) {
			t.Fatalf("%d peers, or the wrong ones", len(all))
		}
		for i := range 2 * reputation.MaxPeers {
			k.Observe(fmt.Sprint("q", i), reputation.Malformed, 0, 0, 0)
		}
		if all = k.Peers(); len(all) > reputation.MaxPeers || !slices.Contains(all, "friend") {
			t.Fatalf("liars by the thousand have pushed out a friend (%d peers)", len(all))
		}
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
		if got := open(t, db).Peers(); len(got) != len(all) {
			t.Fatalf("%d of %d peers come back", len(got), len(all))
		}
	})
}

// TestSave: what was written is there in another book, what could not be is written
// later, and what has not changed is not written.
func TestSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &failing{DB: openDB(t)}
		k := open(t, db)
		k.Observe("p", reputation.Success, 1<<20, time.Second, time.Millisecond)
		k.Observe("p", reputation.Stalled, 0, 0, 0)
		k.Placed("p", reputation.PlaceIn("ggen/1 (geo -48 11 eu)"))
		db.broken = errors.New("the disk is full")
		if err := k.Save(); !errors.Is(err, db.broken) {
			t.Fatalf("got %v", err)
		}
		db.broken = nil
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
		written := db.writes
		if err := k.Save(); err != nil || db.writes != written {
			t.Fatalf("written again without a change (%v)", err)
		}
		again := open(t, db)
		before, _ := k.Get("p")
		after, ok := again.Get("p")
		if !ok || again.Score("p") != k.Score("p") || after.Counts != before.Counts || after.Place != before.Place || after.FailedBy != reputation.Stalled {
			t.Fatalf("%+v became %+v", before, after)
		}
		wait(48 * time.Hour)
		if s := open(t, db).Score("p"); s != k.Score("p") {
			t.Fatalf("the time between two runs counts: %+v, without a restart %+v", s, k.Score("p"))
		}
	})
}

type failing struct {
	reputation.DB
	broken error
	writes int
}

func (f *failing) Update(write func(tx *bbolt.Tx) error) error {
	if f.broken != nil {
		return f.broken
	}
	f.writes++
	return f.DB.Update(write)
}

// TestAFormerBookIsTakenOver: it was one value.
func TestAFormerBookIsTakenOver(t *testing.T) {
	db := openDB(t)
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("reputation"))
		if err != nil {
			return err
		}
		return b.Put([]byte("book"), []byte(`{"p":{"s":3,"f":1,"retrieved":3,"failed":1,"response":5,"bandwidth":6,"last_seen":"2026-01-01T00:00:00Z"},"q":null}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	k := open(t, db)
	if _, known := k.Get("p"); !known {
		t.Fatal("a peer is forgotten")
	}
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, db).Peers(); !slices.Equal(got, []string{"p"}) {
		t.Fatalf("then there are %v", got)
	}
}

// deeds draws a past.
func deeds(t *rapid.T, label string) []reputation.Outcome {
	return rapid.SliceOfN(rapid.SampledFrom([]reputation.Outcome{
		reputation.Success, reputation.Success, reputation.Absent, reputation.Busy, reputation.Unreachable, reputation.Disconnected, reputation.Stalled, reputation.Failure,
	}), 0, 60).Draw(t, label)
}

// TestScoreIsMonotone: whatever the past, a better deed never leaves a peer with less
// than a worse one, and the score stays between 0 and 1.
func TestScoreIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		past := deeds(t, "past")
		response := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "response"))
		took := response + time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "took"))
		better := func(d time.Duration, label string) time.Duration {
			return time.Duration(rapid.Int64Range(1, int64(d)).Draw(t, label))
		}
		quicker, shorter := better(response, "quicker"), better(took-response, "shorter")
		away := time.Duration(rapid.Int64Range(0, int64(30*24*time.Hour)).Draw(t, "away"))
		longer := away + time.Duration(rapid.Int64Range(0, int64(30*24*time.Hour)).Draw(t, "longer"))
		now := time.Unix(1_800_000_000, 0)
		k := reputation.New()
		k.SetClock(func() time.Time { return now })
		score := func(id string, deed reputation.Outcome, response, took time.Duration) float64 {
			for _, o := range past {
				k.Observe(id, o, 1<<20, 2*time.Second, time.Second)
			}
			before := k.Score(id).Total
			k.Observe(id, deed, 1<<20, took, response)
			after := k.Score(id).Total
			if after < 0 || after > 1 || deed == reputation.Stalled && after > before+1e-12 {
				t.Fatalf("from %v to %v by %v", before, after, deed)
			}
			return after
		}
		base := score("base", reputation.Success, response, took)
		for what, other := range map[string]float64{
			"a shorter response": score("quick", reputation.Success, quicker, quicker+(took-response)),
			"more bandwidth":     score("broad", reputation.Success, response, response+shorter),
		} {
			if other < base-1e-9 {
				t.Fatalf("%s made %v of %v", what, other, base)
			}
		}
		if failed, delivered := score("failed", reputation.Stalled, 0, 0), score("delivered", reputation.Success, 0, 0); failed > delivered+1e-9 {
			t.Fatalf("a failure has %v, a success %v", failed, delivered)
		}
		if unreachable, failed := score("gone", reputation.Unreachable, 0, 0), k.Score("failed").Total; unreachable < failed {
			t.Fatalf("to be switched off is worse (%v) than to stall (%v)", unreachable, failed)
		}
		now = now.Add(away)
		soon := k.Score("base").Recency
		now = now.Add(longer - away)
		if late := k.Score("base").Recency; late > soon {
			t.Fatalf("recency rises from %v to %v while nothing happens", soon, late)
		}
	})
}

// TestReliabilityIsMonotone: one more success never lowers it, one more failure never
// raises it.
func TestReliabilityIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, f := rapid.Float64Range(0, 1e6).Draw(t, "s"), rapid.Float64Range(0, 1e6).Draw(t, "f")
		more := rapid.Float64Range(0, 1e6).Draw(t, "more")
		here := reputation.Reliability(s, f)
		if here < 0 || here > 1 || reputation.Reliability(s+more, f) < here-1e-9 || reputation.Reliability(s, f+more) > here+1e-9 {
			t.Fatalf("%v of (%v, %v); %v with successes, %v with failures", here, s, f, reputation.Reliability(s+more, f), reputation.Reliability(s, f+more))
		}
	})
}

// TestNearness: nearer never counts less, and it counts nothing once an answer was timed.
func TestNearness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		place := func(label string) reputation.Place {
			p, ok := reputation.NewPlace(rapid.Float64Range(-90, 90).Draw(t, label+" latitude"), rapid.Float64Range(-180, 180).Draw(t, label+" longitude"), "")
			if !ok {
				t.Fatal("this is on Earth")
			}
			return p
		}
		here, a, b := place("here"), place("a"), place("b")
		k := reputation.New()
		k.SetPlace(here)
		k.Placed("a", a)
		k.Placed("b", b)
		toA, _ := here.Distance(a)
		toB, _ := here.Distance(b)
		if (toA <= toB) != (k.Score("a").Nearness >= k.Score("b").Nearness) || (toA <= toB) != (k.Expect("a").Nearby <= k.Expect("b").Nearby) && toA != toB {
			t.Fatalf("%v km has %v, %v km %v", toA, k.Score("a").Nearness, toB, k.Score("b").Nearness)
		}
		if toA < 0 || toA > 20_100 {
			t.Fatalf("%v km is no distance on Earth", toA)
		}
		for _, id := range []string{"a", "b"} {
			k.Observe(id, reputation.Success, 1, time.Second, time.Second)
		}
		if math.Abs(k.Score("a").Nearness-k.Score("b").Nearness) > 1e-6 {
			t.Fatal("where they say they are counts more than how fast they answer")
		}
	})
}

func TestPlaces(t *testing.T) {
	for agent, want := range map[string]string{
		"ggen/1.0.0 (geo 48 11 eu-central)": "geo 48 11 eu-central", "ggen/1.0.0 (geo -33 -71)": "geo -33 -71", "ggen/1.0.0": "", "": "", "(geo 0 0)": "geo 0 0",
		"(geo 91 0)": "", "(geo 0 181)": "", "(geo 0 0 Große)": "", "(geo 0)": "", "(geo 0 0 a b)": "", "(geo x y)": "", "(geo 0 0": "", "(geo 0  0)": "",
		"(geo 0 0 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)": "",
	} {
		if got := reputation.PlaceIn(agent).String(); got != want {
			t.Errorf("%q is at %q, want %q", agent, got, want)
		}
	}
	if p, ok := reputation.NewPlace(48.137, 11.575, "eu-central"); !ok || p.String() != "geo 48 12 eu-central" {
		t.Errorf("Munich is at %q", p)
	}
	if _, ok := reputation.NewPlace(math.NaN(), 0, ""); ok {
		t.Error("NaN is a latitude")
	}
}

func FuzzPlaceIn(f *testing.F) {
	f.Add("ggen/1.0.0 (geo 48 11 eu-central)")
	f.Fuzz(func(t *testing.T, agent string) {
		p := reputation.PlaceIn(agent)
		if p.Known && reputation.PlaceIn("ggen/1 ("+p.String()+")") != p {
			t.Fatalf("%q gives %+v, which does not come back", agent, p)
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add("p", []byte(`{"last_seen":"2026-01-01T00:00:00Z","s":1,"f":2,"counts":{"delivered":3},"response":5,"pace":6}`))
	f.Add("book", []byte(`{"p":{"s":1}}`))
	f.Add("p", []byte(`null`))
	f.Fuzz(func(t *testing.T, key string, data []byte) {
		if key == "" || len(key) > bbolt.MaxKeySize {
			return
		}
		db := openDB(t)
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("reputation"))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), data)
		}); err != nil {
			t.Fatal(err)
		}
		k := open(t, db)
		for _, id := range k.Peers() {
			if s := k.Score(id).Total; !(s >= 0 && s <= 1) {
				t.Fatalf("%q scores %v", id, s)
			}
			k.Observe(id, reputation.Success, 1, 1, 1)
		}
		if err := k.Save(); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkReputationCalculation(b *testing.B) {
	k := reputation.New()
	k.Observe("p", reputation.Success, 1<<20, time.Second, 10*time.Millisecond)
	k.Observe("p", reputation.Stalled, 0, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		k.Score("p")
	}
}
