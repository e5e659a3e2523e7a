package reputation_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/reputation"
)

func TestScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		if got := k.Score("stranger"); got != 0.5 {
			t.Fatalf("a stranger has %v", got)
		}
		k.Observe("good", reputation.Success, 1<<20, time.Second, 10*time.Millisecond)
		k.Observe("bad", reputation.Failure, 0, 0, 0)
		k.Observe("absent", reputation.Absent, 0, 0, 0)
		if good, bad := k.Score("good"), k.Score("bad"); good <= 0.5 || bad >= 0.5 || k.Score("absent") != 0.5 {
			t.Fatalf("good %v, bad %v, absent %v", good, bad, k.Score("absent"))
		}
		before := k.Score("bad")
		<-time.After(24 * time.Hour) // virtual
		if after := k.Score("bad"); after <= before || after >= 0.5 {
			t.Fatalf("a day later a failure counts %v, before %v", after, before)
		}
	})
}

func TestBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := reputation.New()
		for range 1000 {
			k.Observe("liar", reputation.Success, 1<<20, time.Millisecond, time.Millisecond)
		}
		k.Observe("liar", reputation.WrongContent, 0, 0, 0)
		if !k.Banned("liar") || k.Score("liar") != 0 || len(k.Rank([]string{"liar", "other"})) != 1 {
			t.Fatal("a good past protects a liar")
		}
		kept, err := k.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		again := reputation.New()
		if err := again.Restore(kept); err != nil || !again.Banned("liar") {
			t.Fatalf("a restart forgives: %v", err)
		}
		<-time.After(reputation.BanWrongContent + time.Second) // virtual
		if again.Banned("liar") {
			t.Fatal("the ban does not end")
		}
	})
}

func TestRankPutsTheBestFirst(t *testing.T) {
	k := reputation.New()
	k.Observe("slow", reputation.Success, 1<<10, time.Second, time.Second)
	k.Observe("fast", reputation.Success, 1<<20, 10*time.Millisecond, time.Millisecond)
	k.Observe("failing", reputation.Failure, 0, 0, 0)
	if got := k.Rank([]string{"failing", "stranger", "slow", "fast"}); !slices.Equal(got, []string{"fast", "stranger", "slow", "failing"}) {
		t.Fatalf("ranked %v", got)
	}
}

func TestTheBookIsBounded(t *testing.T) {
	k := reputation.New()
	for i := range reputation.MaxPeers + 100 {
		k.Seen(fmt.Sprint("p", i))
	}
	if got := len(k.Peers()); got != reputation.MaxPeers {
		t.Fatalf("%d peers", got)
	}
}

// TestScoreIsMonotone: one more success never lowers it, one more failure never
// raises it, and it stays between 0 and 1.
func TestScoreIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := reputation.New()
		for _, failed := range rapid.SliceOfN(rapid.Bool(), 0, 50).Draw(t, "past") {
			before := k.Score("p")
			if failed {
				k.Observe("p", reputation.Failure, 0, 0, 0)
			} else {
				k.Observe("p", reputation.Success, 0, 0, 0)
			}
			after := k.Score("p")
			if after < 0 || after > 1 || failed && after > before || !failed && after < before {
				t.Fatalf("from %v to %v after failed=%v", before, after, failed)
			}
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"p":{"s":1,"f":2,"retrieved":3,"failed":4,"response":5,"bandwidth":6}}`))
	f.Add([]byte(`{"p":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k := reputation.New()
		if k.Restore(data) != nil {
			return
		}
		for _, id := range k.Peers() {
			if s := k.Score(id); s < 0 || s > 1 {
				t.Fatalf("%q scores %v", id, s)
			}
		}
		k.Observe("new", reputation.Success, 1, 1, 1)
	})
}
