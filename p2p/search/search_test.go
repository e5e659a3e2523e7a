package search_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

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

// BenchmarkSearch measures a query of two words over many packages, whose words
// are as unevenly common as in real text (Zipf).
func BenchmarkSearch(b *testing.B) {
	for _, count := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			zipf := rand.NewZipf(random, 1.2, 4, 20_000)
			syllables := []string{"ba", "cor", "dul", "es", "fin", "gra", "hol", "in", "jo", "ket", "lum", "mer", "no", "pra", "qui", "ros", "ster", "tan", "ul", "vex"}
			word := func() string {
				text := ""
				for n := zipf.Uint64() + 20; n > 0; n /= 20 {
					text += syllables[n%20]
				}
				return text
			}
			x := search.New()
			for i := range count {
				var text []string
				for range 20 {
					text = append(text, word())
				}
				x.Put(doc(fmt.Sprintf("package-%d", i), strings.Join(text, " ")))
			}
			for b.Loop() {
				x.Search(shared.SearchQuery{Text: word() + " " + word()})
			}
		})
	}
}
