package popularity_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ggen.dev/marketplace/p2p/popularity"
)

// lookups answers a survey and remembers what it was asked, and when.
type lookups struct {
	start   time.Time
	offline bool
	asked   []string
	at      []time.Duration
	changed map[string]float64
}

func survey(t *testing.T, b *popularity.Book) (*popularity.Survey, *lookups) {
	t.Helper()
	l := &lookups{start: time.Now(), changed: map[string]float64{}}
	s, err := popularity.NewSurvey(b, popularity.Config{
		Lookup: func(ctx context.Context, p popularity.Package) ([]popularity.Peer, bool) {
			l.asked, l.at = append(l.asked, p.Name), append(l.at, time.Since(l.start))
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
			return holders(5), !l.offline
		},
		Changed: func(p popularity.Package, about float64) { l.changed[p.Name] = about },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, l
}

func TestSurveyAsksOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBook(t, database(t))
		s, l := survey(t, b)
		s.Want(named("a"), named("b"))
		s.Want(named("a"), named("c"))
		pass(time.Minute)
		synctest.Wait()
		if fmt.Sprint(l.asked, l.at) != "[a b c] [0s 2.5s 5s]" || l.changed["c"] != 5 {
			t.Fatalf("asked for %v at %v, changed %v", l.asked, l.at, l.changed)
		}
		s.Want(named("a"))
		pass(time.Minute)
		synctest.Wait()
		if len(l.asked) != 3 {
			t.Fatalf("what is fresh was looked up again: %v", l.asked)
		}
		pass(popularity.FreshFor)
		s.Want(named("a"))
		pass(time.Minute)
		synctest.Wait()
		if len(l.asked) != 4 {
			t.Fatalf("what is old was not looked up again: %v", l.asked)
		}
	})
}

func TestSurveyBelievesNobodyWhoWasNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBook(t, database(t))
		s, l := survey(t, b)
		l.offline = true
		s.Want(named("a"))
		pass(time.Minute)
		synctest.Wait()
		if _, ok := b.Holders(named("a")); ok || len(l.changed) > 0 {
			t.Fatal("a lookup that asked nobody was an observation")
		}
		l.offline = false
		s.Want(named("a"))
		pass(time.Minute)
		synctest.Wait()
		about(t, b, named("a"), 5)
	})
}

func TestSurveyIsBoundedAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBook(t, database(t))
		s, l := survey(t, b)
		for i := range 10_000 {
			s.Want(named(fmt.Sprintf("p%d", i)))
		}
		pass(2 * time.Hour)
		synctest.Wait()
		if len(l.asked) > 300 {
			t.Fatalf("%d lookups", len(l.asked))
		}
		s.Want(named("last"))
		synctest.Wait()
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := b.Holders(named("last")); ok || l.asked[len(l.asked)-1] != "last" {
			t.Fatal("a lookup that was interrupted was an observation")
		}
		s.Want(named("late")) // nobody is there to look it up, and nobody waits
	})
}
