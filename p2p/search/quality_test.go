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

// TestQuality holds the ranking against judged queries, so that whoever changes a
// weight sees what it does. -v prints the worst ones.
func TestQuality(t *testing.T) {
	packages, queries := fixture[shared.PackageSummary](t, "packages.json"), fixture[judged](t, "queries.json")
	if len(queries) < 60 {
		t.Fatalf("%d queries", len(queries))
	}
	x := search.New()
	for _, p := range packages {
		p.Publisher = "0123456789abcdef"
		x.Put(search.Doc{Summary: p})
	}
	var ours, plain float64
	for _, q := range queries {
		page, _ := x.Search(shared.SearchQuery{Text: q.Query, Limit: 10})
		var found []string
		for _, p := range page {
			found = append(found, p.Name)
		}
		score := ndcg(found, q.Relevant)
		if score < 0.8 {
			t.Logf("%.2f %-28q %v", score, q.Query, found[:min(4, len(found))])
		}
		ours += score / float64(len(queries))
		plain += ndcg(substring(packages, q.Query), q.Relevant) / float64(len(queries))
	}
	t.Logf("nDCG@10 over %d queries and %d packages: %.3f; substring search: %.3f", len(queries), len(packages), ours, plain)
	if ours < 0.93 || ours < plain+0.1 {
		t.Errorf("nDCG@10 is %.3f; a substring search has %.3f", ours, plain)
	}
}
