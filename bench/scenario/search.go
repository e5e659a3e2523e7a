package scenario

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"ggen.dev/marketplace/p2p"
	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/p2p/store"
	"ggen.dev/marketplace/shared"
)

// searchAcross measures searches at random peers of a network in which the packages were
// published by some of them and have reached all. Time is real: a search is this
// machine's work. There is no floor but that: nobody else is asked.
func searchAcross(packages int) func(r *Run) {
	return func(r *Run) {
		const publishers = 5 // peers that have published, each its share
		random := r.random()
		n := r.network()
		n.grow(r.Scenario.Peers, func(i int) p2p.Config {
			if i < publishers {
				return r.seed(packages / publishers)
			}
			return p2p.Config{}
		})
		began := time.Now()
		n.connected()
		n.complete(packages)
		r.Took("complete", time.Since(began))
		for r.Loop() {
			query := shared.SearchQuery{Text: words(random), Limit: 20}
			e := n.engines[random.IntN(len(n.engines))]
			began := time.Now()
			found, err := e.Search(r.Context(), query)
			r.Took("search", time.Since(began))
			if err != nil || found.Total == 0 {
				r.Fatalf("search %q: %d packages, %v", query.Text, found.Total, err)
			}
		}
	}
}

// words are one to three words that seeded packages have, every fourth time with a typing
// error.
func words(random *rand.Rand) string {
	vocabulary := []string{"templates", "queries", "services", "handlers", "routes", "migrations", "typed", "clients", "ontology", "entity", "relations"}
	text := ""
	for i := range 1 + random.IntN(3) {
		word := vocabulary[random.IntN(len(vocabulary))]
		if i == 0 && random.IntN(4) == 0 {
			at := 1 + random.IntN(len(word)-2)
			word = word[:at] + word[at+1:]
		}
		text += word + " "
	}
	return text
}

// cacheHit measures what is known already: a package's metadata in memory (ns/op), and
// 30 KB of content from the disk, verified. The floor of the latter is the hash of the
// same bytes in memory.
func cacheHit(r *Run) {
	n := r.network()
	e := n.open(p2p.Config{})
	const name = "known-package"
	r.publish(e, name)
	content, err := io.ReadAll(tree(name, 30<<10))
	if err != nil {
		r.Fatal(err)
	}
	disk, err := store.Open(filepath.Join(r.TempDir(), "content"), store.Options{})
	if err != nil {
		r.Fatal(err)
	}
	digest, _, err := disk.Put(r.Context(), bytes.NewReader(content), "")
	if err != nil {
		r.Fatal(err)
	}
	const rounds, batch = 200, 100 // a clock is not read for a microsecond
	for range rounds {
		began := time.Now()
		for range batch {
			if _, err := e.Describe(r.Context(), shared.Ref{Name: name}); err != nil {
				r.Fatal(err)
			}
		}
		r.micro("hit-hot", time.Since(began)/batch)
		began = time.Now()
		if err := disk.Verify(r.Context(), digest); err != nil {
			r.Fatal(err)
		}
		r.micro("hit-cold", time.Since(began))
		began = time.Now()
		sha256.Sum256(content)
		r.micro("hit-cold-floor", time.Since(began))
	}
	for r.Loop() {
		if _, err := e.Describe(r.Context(), shared.Ref{Name: name}); err != nil {
			r.Fatal(err)
		}
	}
}

// micro adds a time to a series in microseconds.
func (r *Run) micro(series string, d time.Duration) {
	r.Sample(series, "us", float64(d)/float64(time.Microsecond))
}

// largeIndex measures searches in so many packages, without a network.
func largeIndex(packages int) func(r *Run) {
	return func(r *Run) {
		random := r.random()
		index := search.New()
		began := time.Now()
		for i := range packages {
			name := fmt.Sprintf("package-%d", i)
			index.Put(search.Doc{
				Summary: shared.PackageSummary{
					Name: name, Publisher: shared.PublisherID(shared.DigestOf([]byte(name)).Hex()), Version: "1.0.0", Category: "backend", License: "MIT",
					Title:       fmt.Sprintf("%s %s", words(random), name),
					Description: fmt.Sprintf("%sfor team %d, with %sand %sof entity %d", words(random), i%997, words(random), words(random), i),
				},
				Keywords: []string{fmt.Sprint("team", i%97)},
			})
		}
		r.Took("index", time.Since(began))
		for r.Loop() {
			query := shared.SearchQuery{Text: words(random), Limit: 20}
			began := time.Now()
			if _, total := index.Search(query); total == 0 {
				r.Fatalf("nothing is found for %q", query.Text)
			}
			r.Took("search", time.Since(began))
		}
	}
}

// binaries is the folder of `make build`, for scenarios with processes.
func (r *Run) binaries() string {
	folder := os.Getenv("GGEN_BENCH_BIN")
	if folder == "" {
		folder = filepath.Join("..", "..", "bin") // from this package's folder, where its tests run
	}
	folder, err := filepath.Abs(folder)
	if err == nil {
		_, err = os.Stat(filepath.Join(folder, "ggen"))
	}
	if err != nil {
		r.Skipf("needs the binaries of `make build`: %v", err)
	}
	return folder
}
