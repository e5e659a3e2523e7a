package search_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/shared"
)

func doc(name, description string, tags ...string) search.Doc {
	return search.Doc{Summary: shared.PackageSummary{Name: name, Publisher: "0123456789abcdef", Version: "1.0.0", Title: name, Description: description, Category: "web", License: "MIT", Author: "Ann", Tags: tags}}
}

func shelf() *search.Index {
	x := search.New()
	x.Put(doc("rest-api", "Generates an HTTP service with OpenAPI", "http", "api"))
	x.Put(doc("grpc-service", "Generates a gRPC service from an ontology", "rpc"))
	x.Put(doc("api", "The smallest interface"))
	x.Put(doc("ontology-basics", "A vocabulary to learn from, with shapes", "rdf"))
	x.Put(doc("grüße", "Vorlagen für Begrüßungen"))
	x.Put(doc("nihongo", "日本語のテンプレート集"))
	return x
}

func names(x *search.Index, q shared.SearchQuery) string {
	page, _ := x.Search(q)
	var out []string
	for _, p := range page {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestSearch(t *testing.T) {
	x := shelf()
	for _, tc := range []struct{ name, query, first string }{
		{"an exact name comes first", "api", "api"},
		{"a name weighs more than a description", "ontology", "ontology-basics"},
		{"tags count", "rdf", "ontology-basics"},
		{"more words are better than fewer", "http service", "rest-api"},
		{"upper case does not matter", "OPENAPI", "rest-api"},
		{"a typing error is forgiven", "ontolgy", "ontology-basics"},
		{"two swapped letters too", "grcp-serivce", "grpc-service"},
		{"the last word may be unfinished", "vocab", "ontology-basics"},
		{"umlauts, composed or not", "Begru\u0308ßungen", "grüße"},
		{"scripts without spaces", "テンプレート", "nihongo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := names(x, shared.SearchQuery{Text: tc.query}); !strings.HasPrefix(got+" ", tc.first+" ") {
				t.Fatalf("%q finds %q, want %s first", tc.query, got, tc.first)
			}
		})
	}
	t.Run("nonsense finds nothing", func(t *testing.T) {
		if got := names(x, shared.SearchQuery{Text: "xyzzy qwertz"}); got != "" {
			t.Fatalf("found %q", got)
		}
	})
	t.Run("no text lists all by name", func(t *testing.T) {
		if got := names(x, shared.SearchQuery{}); got != "api grpc-service grüße nihongo ontology-basics rest-api" {
			t.Fatalf("found %q", got)
		}
	})
}

func TestFiltersAndPages(t *testing.T) {
	x := shelf()
	for _, tc := range []struct {
		query shared.SearchQuery
		want  string
	}{
		{shared.SearchQuery{Tag: "HTTP"}, "rest-api"},
		{shared.SearchQuery{Category: "cli"}, ""},
		{shared.SearchQuery{License: "mit", Limit: 1}, "api"},
		{shared.SearchQuery{Publisher: "01234567", Limit: 1, Offset: 1}, "grpc-service"},
		{shared.SearchQuery{Publisher: "ffffffff"}, ""},
		{shared.SearchQuery{Offset: 100}, ""},
	} {
		if got := names(x, tc.query); got != tc.want {
			t.Errorf("%+v finds %q, want %q", tc.query, got, tc.want)
		}
	}
	if page, total := x.Search(shared.SearchQuery{Limit: 2}); len(page) != 2 || total != 6 {
		t.Errorf("a page of %d of %d", len(page), total)
	}
}

func TestPutReplaces(t *testing.T) {
	x := shelf()
	x.Put(doc("api", "quite another thing"))
	if got := names(x, shared.SearchQuery{Text: "smallest"}); got != "" {
		t.Errorf("the old text is still found: %q", got)
	}
	if got := names(x, shared.SearchQuery{Text: "another"}); got != "api" || x.Len() != 6 {
		t.Errorf("found %q among %d", got, x.Len())
	}
}

func TestReadmeCountsLeast(t *testing.T) {
	x := shelf()
	with := doc("carrier", "Moves things")
	with.Readme = "How carrier moves a zeppelin and other vocabulary over an ontology"
	x.Put(with)
	x.Put(doc("airship", "Builds one zeppelin"))
	for query, want := range map[string]string{"zeppelin": "airship carrier", "vocabulary": "ontology-basics carrier", "moves": "carrier"} {
		if got := names(x, shared.SearchQuery{Text: query}); got != want {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
	}
	page, _ := x.Search(shared.SearchQuery{Text: "zeppelin"})
	if got := strings.Join(page[1].Matches, " "); got != "zeppelin" {
		t.Errorf("matches %q", got)
	}
	without := doc("carrier", "Moves things")
	x.Put(without)
	if got := names(x, shared.SearchQuery{Text: "zeppelin"}); got != "airship" {
		t.Errorf("a readme that is gone is found by %q", got)
	}
}

func TestHoldersDecideBetweenEquals(t *testing.T) {
	x := shelf()
	x.Put(doc("first", "makes wagons"))
	x.Put(doc("second", "makes wagons"))
	key := func(name string) search.Key { return search.Key{Name: name, Publisher: "0123456789abcdef"} }
	for _, tc := range []struct {
		name    string
		holders float64
		want    string
	}{
		{"second", 3, "second first"},
		{"second", 0, "first second"},
		{"second", -1, "first second"},
		{"second", math.Inf(1), "second first"},
		{"nobody knows it", 3, "second first"},
	} {
		x.SetHolders(key(tc.name), tc.holders)
		if got := names(x, shared.SearchQuery{Text: "wagons"}); got != tc.want {
			t.Errorf("with %v holders of %s the order is %q, want %q", tc.holders, tc.name, got, tc.want)
		}
	}
	again := doc("second", "makes wagons")
	x.Put(again)
	if got := names(x, shared.SearchQuery{Text: "wagons"}); got != "first second" {
		t.Errorf("after a new release that nobody is known to hold: %q", got)
	}
	again.Holders = 100
	again.Summary.Deprecated = true
	x.Put(again)
	if got := names(x, shared.SearchQuery{Text: "wagons"}); got != "first second" {
		t.Errorf("many hold what is deprecated, and it comes first: %q", got)
	}
}

// TestHoldersNeverLiftABadMatch: whatever anybody says about who holds what, a text that
// is worth a tenth more comes first.
func TestHoldersNeverLiftABadMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := search.New()
		word := rapid.StringMatching(`[abc]{1,3}`)
		count := rapid.IntRange(2, 12).Draw(t, "count")
		for i := range count {
			x.Put(doc(fmt.Sprintf("p%d", i), strings.Join(rapid.SliceOfN(word, 1, 8).Draw(t, "words"), " ")))
		}
		q := shared.SearchQuery{Text: word.Draw(t, "query") + " " + word.Draw(t, "more")}
		before, _ := x.Search(q)
		plain := map[string]float64{}
		for _, p := range before {
			plain[p.Name] = p.Score
		}
		for i := range count {
			x.SetHolders(search.Key{Name: fmt.Sprintf("p%d", i), Publisher: "0123456789abcdef"}, rapid.Float64().Draw(t, "holders"))
		}
		after, _ := x.Search(q)
		if len(after) != len(before) {
			t.Fatalf("%d results became %d", len(before), len(after))
		}
		for i, p := range after {
			for _, worse := range after[:i] {
				if plain[p.Name] > 1.1001*plain[worse.Name] {
					t.Fatalf("%s (%.3f) comes before %s (%.3f)", worse.Name, plain[worse.Name], p.Name, plain[p.Name])
				}
			}
		}
	})
}

func TestSearchAmong(t *testing.T) {
	x := shelf()
	among := map[search.Key]bool{{Name: "api", Publisher: "0123456789abcdef"}: true, {Name: "rest-api", Publisher: "fedcba9876543210"}: true}
	for _, text := range []string{"", "api"} {
		for _, order := range append(shared.SearchOrders(), "") {
			page, total := x.SearchAmong(shared.SearchQuery{Text: text, Sort: order}, among)
			if total != 1 || len(page) != 1 || page[0].Name != "api" {
				t.Errorf("%q by %q: %d, %+v", text, order, total, page)
			}
		}
	}
	if _, total := x.SearchAmong(shared.SearchQuery{}, map[search.Key]bool{}); total != 0 {
		t.Errorf("%d packages among none", total)
	}
}

// TestAnyTextIsSafe: hostile documents and queries neither fail nor find what is
// not there, and an exact name is always first.
func TestAnyTextIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := search.New()
		count := rapid.IntRange(1, 20).Draw(t, "count")
		for i := range count {
			x.Put(doc(fmt.Sprintf("p%d", i), rapid.String().Draw(t, "description"), rapid.String().Draw(t, "tag")))
		}
		page, total := x.Search(shared.SearchQuery{Text: rapid.String().Draw(t, "text"), Limit: 1000})
		if total > count || len(page) != total {
			t.Fatalf("%d of %d", len(page), total)
		}
		for i := 1; i < len(page); i++ {
			if page[i-1].Score < page[i].Score {
				t.Fatal("out of order")
			}
		}
		if first := names(x, shared.SearchQuery{Text: "p0", Limit: 1}); first != "p0" {
			t.Fatalf("the exact name is behind %s", first)
		}
	})
}

func TestReadersAndWriters(t *testing.T) {
	x := shelf()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 50 {
				x.Put(doc(fmt.Sprintf("new-%d-%d", i, j), "service"))
				x.Search(shared.SearchQuery{Text: "service"})
			}
		})
	}
	all.Wait()
	if x.Len() != 206 {
		t.Fatalf("%d packages", x.Len())
	}
}

// TestChangesLeaveNoTrace: an index that documents were put into, replaced and removed
// in any order answers as one that was made of the rest.
func TestChangesLeaveNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[abc]{1,5}`)
		used, left := search.New(), map[string]search.Doc{}
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			name := rapid.SampledFrom([]string{"a", "ab", "abc", "b", "bc", "c", "ca"}).Draw(t, "name")
			if rapid.Bool().Draw(t, "remove") {
				used.Remove(name, "0123456789abcdef")
				delete(left, name)
				continue
			}
			d := doc(name, strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, "words"), " "))
			d.Summary.Deprecated = rapid.Bool().Draw(t, "deprecated")
			d.Readme = strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, "readme"), " ")
			d.Holders = rapid.Float64Range(-1, 200).Draw(t, "holders")
			used.Put(d)
			left[name] = d
		}
		fresh := search.New()
		for _, d := range left {
			fresh.Put(d)
		}
		for _, text := range []string{"", word.Draw(t, "query"), word.Draw(t, "first") + " " + word.Draw(t, "second")} {
			q := shared.SearchQuery{Text: text, Limit: rapid.IntRange(1, 8).Draw(t, "limit"), Offset: rapid.IntRange(0, 3).Draw(t, "offset")}
			got, total := used.Search(q)
			want, all := fresh.Search(q)
			if total != all || len(got) != len(want) {
				t.Fatalf("%q: %d of %d, want %d of %d", text, len(got), total, len(want), all)
			}
			for i := range got {
				if got[i].Name != want[i].Name || math.Abs(got[i].Score-want[i].Score) > 1e-4*math.Abs(want[i].Score) {
					t.Fatalf("%q: %v, want %v", text, got, want)
				}
			}
			// A page is a piece of the whole, however many are asked for.
			whole, _ := used.Search(shared.SearchQuery{Text: text, Limit: 10_000})
			for i := range got {
				if whole[q.Offset+i].Name != got[i].Name {
					t.Fatalf("%q: page %+v of %+v", text, got, whole)
				}
			}
		}
	})
}

func TestMatches(t *testing.T) {
	page, _ := shelf().Search(shared.SearchQuery{Text: "Generats ontology serv"})
	for _, p := range page {
		if p.Name == "grpc-service" {
			if got := strings.Join(p.Matches, " "); got != "generates ontology service" {
				t.Fatalf("got %q", got)
			}
			return
		}
	}
	t.Fatal("it was not found")
}

// corpus makes documents whose words are as unevenly common as in real text (Zipf), each
// with as long a readme as there can be, and queries of the same words.
func corpus(count int) (docs []search.Doc, word func() string) {
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.2, 4, 20_000)
	syllables := []string{"ba", "cor", "dul", "es", "fin", "gra", "hol", "in", "jo", "ket", "lum", "mer", "no", "pra", "qui", "ros", "ster", "tan", "ul", "vex"}
	word = func() string {
		text := ""
		for n := zipf.Uint64() + 20; n > 0; n /= 20 {
			text += syllables[n%20]
		}
		return text
	}
	for i := range count {
		var text []string
		for range 20 {
			text = append(text, word())
		}
		d := doc(fmt.Sprintf("%s-%s-%d", word(), word(), i), strings.Join(text, " "), word(), word())
		for len(d.Readme) < 505 {
			d.Readme += word() + " "
		}
		docs = append(docs, d)
	}
	return docs, word
}

// BenchmarkSearch measures queries of one to three words, every fourth with a typing
// error, over many packages, and what the index costs.
func BenchmarkSearch(b *testing.B) {
	for _, count := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			docs, word := corpus(count)
			before := heap()
			start := time.Now()
			x := search.New()
			for _, d := range docs {
				x.Put(d)
			}
			built := time.Since(start)
			size := heap() - before
			runtime.KeepAlive(docs) // or what is freed of them would be taken off the index
			queries := make([]string, 500)
			for i := range queries {
				for range i%3 + 1 {
					queries[i] += word() + " "
				}
				if i%4 == 0 && len(queries[i]) > 5 {
					queries[i] = queries[i][:2] + "x" + queries[i][3:]
				}
			}
			var took []time.Duration
			i := 0
			for b.Loop() {
				start := time.Now()
				x.Search(shared.SearchQuery{Text: queries[i%len(queries)]})
				took = append(took, time.Since(start))
				i++
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
			b.ReportMetric(float64(size)/(1<<20), "index-MiB")
			b.ReportMetric(float64(built)/1e6, "build-ms")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
