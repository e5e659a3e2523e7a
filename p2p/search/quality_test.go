package search_test

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/shared"
)

// judged is a query and how well packages answer it: 3 is what was meant, 2 is useful,
// 1 is related. All others are 0.
type judged struct {
	Query    string         `json:"query"`
	Relevant map[string]int `json:"relevant"`
}

func fixture[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "quality", name))
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ndcg is the normalised discounted cumulative gain of the first ten (Järvelin and
// Kekäläinen, 2002): 1 if the best come first, 0 if none is there.
func ndcg(found []string, relevant map[string]int) float64 {
	gain := func(grades []int) (sum float64) {
		for i, grade := range grades[:min(10, len(grades))] {
			sum += (math.Exp2(float64(grade)) - 1) / math.Log2(float64(i)+2)
		}
		return sum
	}
	var grades []int
	for _, name := range found {
		grades = append(grades, relevant[name])
	}
	ideal := slices.SortedFunc(maps.Values(relevant), func(a, b int) int { return b - a })
	return gain(grades) / gain(ideal)
}

// substring is what a search is without an index: packages that have every word
// somewhere in their text, by name.
func substring(packages []shared.PackageSummary, query string) (found []string) {
	for _, p := range packages {
		text := strings.ToLower(strings.Join(append([]string{p.Name, p.Description, p.Category}, p.Tags...), " "))
		if !slices.ContainsFunc(strings.Fields(query), func(word string) bool { return !strings.Contains(text, word) }) {
			found = append(found, p.Name)
		}
	}
	slices.Sort(found)
	return found
}

// quality is the mean nDCG@10 of a search over all judged queries.
func quality(queries []judged, find func(q judged) []string) (mean float64) {
	for _, q := range queries {
		mean += ndcg(find(q), q.Relevant) / float64(len(queries))
	}
	return mean
}

// TestQuality holds the ranking against judged queries, so that whoever changes a
// weight sees what it does. -v prints the worst ones.
func TestQuality(t *testing.T) {
	packages, queries := fixture[shared.PackageSummary](t, "packages.json"), fixture[judged](t, "queries.json")
	readmes := map[string]string{}
	for _, r := range fixture[struct{ Name, Readme string }](t, "readmes.json") {
		readmes[r.Name] = r.Readme
	}
	if len(queries) < 60 {
		t.Fatalf("%d queries", len(queries))
	}
	// held is how many peers hold a package, as far as a query is concerned.
	ours := func(readme bool, held func(q judged, name string) float64) float64 {
		x := search.New()
		for _, p := range packages {
			p.Publisher = "0123456789abcdef"
			d := search.Doc{Summary: p}
			if readme {
				d.Readme = readmes[p.Name]
			}
			x.Put(d)
		}
		return quality(queries, func(q judged) []string {
			for _, p := range packages {
				x.SetHolders(search.Key{Name: p.Name, Publisher: "0123456789abcdef"}, held(q, p.Name))
			}
			found := strings.Fields(names(x, shared.SearchQuery{Text: q.Query, Limit: 10}))
			if score := ndcg(found, q.Relevant); score < 0.8 {
				t.Logf("%.2f %-28q %v", score, q.Query, found[:min(4, len(found))])
			}
			return found
		})
	}
	unknown := func(judged, string) float64 { return -1 }
	// The worst that popularity can do: everybody holds what nobody wants.
	against := func(q judged, name string) float64 {
		if q.Relevant[name] > 0 {
			return 0
		}
		return 1000
	}
	plain := quality(queries, func(q judged) []string { return substring(packages, q.Query) })
	for _, tc := range []struct {
		what        string
		score, want float64
	}{
		{"without readmes", ours(false, unknown), 0.98},
		{"with readmes", ours(true, unknown), 0.98},
		{"with readmes, and popularity against what is relevant", ours(true, against), 0.97},
	} {
		t.Logf("nDCG@10 over %d queries and %d packages, %s: %.3f; substring search: %.3f", len(queries), len(packages), tc.what, tc.score, plain)
		if tc.score < tc.want || tc.score < plain+0.1 {
			t.Errorf("nDCG@10 %s is %.3f, want %.3f; a substring search has %.3f", tc.what, tc.score, tc.want, plain)
		}
	}
}
