// Package search ranks packages for a query, in memory: BM25F over weighted
// fields, with the last word completed as it is typed and typing errors forgiven.
// It holds what it is given and finds it again; where packages come from and who
// may be trusted is for others to know (packages catalog and p2p).
//
// Documents and words have numbers, and what a query computes lies in arrays by
// number, so that a query costs a few nanoseconds for each occurrence of its words.
package search

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

	"ggen.dev/marketplace/shared"
)

// BM25F (Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009,
// section 3.6) with the usual k1 and b: k1 says how fast a repeated word stops to
// count, b how much a long text is discounted.
const (
	k1 = 1.2
	b  = 0.75
)

// What a word is worth by where it stands. A name says most; a description
// mentions many things.
const (
	weightName        = 6
	weightTitle       = 4
	weightKeyword     = 3
	weightTag         = 3
	weightCategory    = 2
	weightAuthor      = 1.5
	weightDescription = 1
)

// How much less a word counts that is not exactly the one that was typed.
const (
	prefixFactor = 0.7
	typoFactor   = 0.4
)

// deprecatedFactor is how much less a package counts that its publisher advises
// against.
const deprecatedFactor = 0.5

const (
	maxWords    = 16   // of a query; more cannot change what comes first
	maxSelect   = 4096 // results that are selected without sorting all
	maxDocWords = 4096 // of a document; the rest is not indexed
	maxWord     = 48   // bytes of a word that is indexed
	maxExpanded = 64   // words that one typed word may stand for
	exactName   = 1000 // added when the query is a package's name
)

// Doc is a package as it is found. Summary is what a search returns.
type Doc struct {
	Summary  shared.PackageSummary
	Keywords []string
}

// Index is safe for concurrent use; readers do not wait for each other.
type Index struct {
	mu       sync.RWMutex // guards the fields below
	docs     []document   // by number
	lengths  []float32    // by number; apart from docs, because every query reads them
	against  []bool       // by number: deprecated
	free     []uint32     // numbers without a document
	keys     map[string]uint32
	names    map[string][]uint32
	words    vocabulary
	length   float64 // of all documents together
	changes  uint64  // how often documents were put and removed
	scratch  sync.Pool
	ordering ordering
}

// document is a package with the numbers of its words, in ascending order. One
// without words and key is none.
type document struct {
	doc   Doc
	words []uint32
}

// ordering is all documents by name, made when it is asked for.
type ordering struct {
	mu      sync.Mutex
	numbers []uint32
	at      uint64 // Index.changes then
}

// New makes an empty index.
func New() *Index {
	x := &Index{keys: map[string]uint32{}, names: map[string][]uint32{}, words: newVocabulary()}
	x.scratch.New = func() any { return new(scratch) }
	return x
}

func key(s shared.PackageSummary) string { return s.Name + "\x00" + string(s.Publisher) }

// Put adds a package, or replaces the one of the same name and publisher.
func (x *Index) Put(doc Doc) {
	said := weigh(doc)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changes++
	k := key(doc.Summary)
	x.remove(k)
	number := x.enter()
	d := &x.docs[number]
	d.doc, d.words = doc, make([]uint32, 0, len(said.weights))
	for word, weight := range said.weights {
		d.words = append(d.words, x.words.add(word, number, weight))
	}
	slices.Sort(d.words)
	x.keys[k] = number
	x.names[doc.Summary.Name] = append(x.names[doc.Summary.Name], number)
	x.lengths[number], x.against[number] = said.length, doc.Summary.Deprecated
	x.length += float64(said.length)
}

func (x *Index) enter() (number uint32) {
	if n := len(x.free); n > 0 {
		number, x.free = x.free[n-1], x.free[:n-1]
		return number
	}
	x.docs, x.lengths, x.against = append(x.docs, document{}), append(x.lengths, 0), append(x.against, false)
	return uint32(len(x.docs) - 1)
}

// Remove takes a package out; one that is not there is no error.
func (x *Index) Remove(name string, publisher shared.PublisherID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changes++
	x.remove(key(shared.PackageSummary{Name: name, Publisher: publisher}))
}

func (x *Index) remove(k string) {
	number, ok := x.keys[k]
	if !ok {
		return
	}
	d := &x.docs[number]
	for _, word := range d.words {
		x.words.remove(word, number)
	}
	name := d.doc.Summary.Name
	if x.names[name] = slices.DeleteFunc(x.names[name], func(n uint32) bool { return n == number }); len(x.names[name]) == 0 {
		delete(x.names, name)
	}
	x.length -= float64(x.lengths[number])
	delete(x.keys, k)
	*d = document{}
	x.free = append(x.free, number)
}

// weighed is what a document says.
type weighed struct {
	weights map[string]float32
	length  float32
}

func weigh(doc Doc) weighed {
	w := weighed{weights: map[string]float32{}}
	w.add(weightName, doc.Summary.Name)
	w.add(weightTitle, doc.Summary.Title)
	w.add(weightKeyword, doc.Keywords...)
	w.add(weightTag, doc.Summary.Tags...)
	w.add(weightCategory, doc.Summary.Category)
	w.add(weightAuthor, doc.Summary.Author)
	w.add(weightDescription, doc.Summary.Description)
	return w
}

func (w *weighed) add(weight float32, texts ...string) {
	for _, text := range texts {
		for _, word := range words(text) {
			if len(w.weights) >= maxDocWords {
				return
			}
			w.weights[word] += weight
			w.length += weight
		}
	}
}

// Len counts the packages.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.keys)
}

// Search finds packages, the best first; equal ones by name, then publisher. All
// words count, none is required, but a document that has more of them wins. Without
// words it lists all, by name.
func (x *Index) Search(q shared.SearchQuery) (page []shared.PackageSummary, total int) {
	limit := q.Limit
	if limit == 0 {
		limit = 20
	}
	typed := words(q.Text)
	typed = typed[:min(len(typed), maxWords)]
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := len(typed) == 0 && strings.TrimSpace(q.Text) == ""
	if all && q.Sort != shared.SortNewest {
		return x.list(q, limit)
	}
	s, _ := x.scratch.Get().(*scratch)
	defer x.scratch.Put(s)
	s.begin(len(x.docs), len(x.words.terms))
	meanings := make([][]meaning, len(typed))
	for i, word := range typed {
		meanings[i] = x.words.expand(word, i == len(typed)-1, s.counts)
		x.score(s, meanings[i])
	}
	x.adjust(s, q.Text)
	if all {
		s.touched = append(s.touched, x.byName()...)
	}
	best := selection{index: x, order: q.Sort, most: q.Offset + limit}
	for _, number := range s.touched {
		score := s.scores[number]
		s.scores[number] = 0
		if !fits(q, &x.docs[number].doc.Summary) {
			continue
		}
		total++
		best.offer(hit{number, score})
	}
	for _, h := range best.page(q.Offset) {
		summary := x.docs[h.number].doc.Summary
		summary.Score = float64(h.score)
		summary.Matches = x.matches(h.number, meanings)
		page = append(page, summary)
	}
	return page, total
}

// list is a search without words.
func (x *Index) list(q shared.SearchQuery, limit int) (page []shared.PackageSummary, total int) {
	for _, number := range x.byName() {
		s := &x.docs[number].doc.Summary
		if !fits(q, s) {
			continue
		}
		if total++; total > q.Offset && len(page) < limit {
			page = append(page, *s)
		}
	}
	return page, total
}

// byName lists all documents in the order of their names, then publishers.
func (x *Index) byName() []uint32 {
	x.ordering.mu.Lock()
	defer x.ordering.mu.Unlock()
	if x.ordering.at != x.changes {
		x.ordering.at = x.changes
		x.ordering.numbers = make([]uint32, 0, len(x.keys))
		for _, number := range x.keys {
			x.ordering.numbers = append(x.ordering.numbers, number)
		}
		slices.SortFunc(x.ordering.numbers, x.compare)
	}
	return x.ordering.numbers
}

// compare orders documents by name, then publisher.
func (x *Index) compare(a, b uint32) int {
	p, q := &x.docs[a].doc.Summary, &x.docs[b].doc.Summary
	return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Publisher, q.Publisher))
}

// scratch is the memory of one query: all zero between two.
type scratch struct {
	scores  []float32 // by document
	touched []uint32  // documents with a score
	best    []float32 // by document: of one typed word
	found   []uint32  // documents with a best
	counts  []uint8   // by word
}

func (s *scratch) begin(docs, words int) {
	s.touched = s.touched[:0]
	if len(s.scores) < docs {
		s.scores, s.best = make([]float32, docs+docs/8), make([]float32, docs+docs/8)
	}
	if len(s.counts) < words {
		s.counts = make([]uint8, words+words/8)
	}
}

// score adds what one typed word is worth to every document that has a word which it
// may stand for; a document counts its best one.
func (x *Index) score(s *scratch, meanings []meaning) {
	average := x.length / float64(max(len(x.keys), 1))
	fixed, each := float32(k1*(1-b)), float32(k1*b/average)
	s.found = s.found[:0]
	for _, m := range meanings {
		t := &x.words.terms[m.number]
		idf := math.Log(1 + (float64(len(x.keys)-len(t.docs))+0.5)/(float64(len(t.docs))+0.5))
		worth := m.factor * float32(idf*(k1+1))
		for i, number := range t.docs {
			weight := t.weights[i]
			value := worth * weight / (weight + fixed + each*x.lengths[number])
			if s.best[number] == 0 {
				s.found = append(s.found, number)
			}
			s.best[number] = max(s.best[number], value)
		}
	}
	for _, number := range s.found {
		if s.scores[number] == 0 {
			s.touched = append(s.touched, number)
		}
		s.scores[number] += s.best[number]
		s.best[number] = 0
	}
}

// adjust lowers what is deprecated, and raises packages whose name was typed.
func (x *Index) adjust(s *scratch, text string) {
	for _, number := range s.touched {
		if x.against[number] {
			s.scores[number] *= deprecatedFactor
		}
	}
	for _, number := range x.names[strings.ToLower(strings.TrimSpace(text))] {
		if s.scores[number] == 0 {
			s.touched = append(s.touched, number)
		}
		s.scores[number] += exactName
	}
}

// matches lists the words of a document that a query has found.
func (x *Index) matches(number uint32, meanings [][]meaning) (texts []string) {
	for _, list := range meanings {
		for _, m := range list {
			if _, ok := slices.BinarySearch(x.docs[number].words, m.number); ok && !slices.Contains(texts, x.words.terms[m.number].text) {
				texts = append(texts, x.words.terms[m.number].text)
			}
		}
	}
	return texts
}

// fits applies the query's filters.
func fits(q shared.SearchQuery, s *shared.PackageSummary) bool {
	return (q.Category == "" || strings.EqualFold(q.Category, s.Category)) &&
		(q.Tag == "" || slices.ContainsFunc(s.Tags, func(tag string) bool { return strings.EqualFold(tag, q.Tag) })) &&
		(q.Publisher == "" || strings.HasPrefix(string(s.Publisher), string(q.Publisher))) &&
		(q.License == "" || strings.EqualFold(q.License, s.License))
}
