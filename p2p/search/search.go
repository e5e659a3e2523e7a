// Package search ranks packages for a query, in memory: BM25F over weighted
// fields, with the last word completed as it is typed and typing errors forgiven,
// and a little more for what many peers hold.
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
	"time"

	"ggen.dev/marketplace/shared"
)

// BM25F (Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009,
// section 3.6) with the usual k1 and b: k1 says how fast a repeated word stops to
// count, b how much a long text is discounted.
const (
	k1 = 1.2
	b  = 0.75
)

// What a word is worth by where it stands, in quarters, so that it fits a byte for
// each occurrence. A name says most; a description mentions many things, and the
// beginning of a readme anything.
const (
	weightName        = 24
	weightTitle       = 16
	weightKeyword     = 12
	weightTag         = 12
	weightCategory    = 8
	weightAuthor      = 6
	weightDescription = 4
	weightReadme      = 1

	oneWord   = weightDescription // what BM25 takes for one occurrence
	maxWeight = 255               // of a word in a document; by then BM25 counts 98 % of any more
)

// How much less a word counts that is not exactly the one that was typed.
const (
	prefixFactor = 0.7
	typoFactor   = 0.4
)

// deprecatedFactor is how much less a package counts that its publisher advises
// against.
const deprecatedFactor = 0.5

// A package that many peers hold counts up to weightHolders more: half of that for
// about 10 peers and all of it from mostHolders on, since the logarithm of their number
// counts. So it decides between packages that match about equally well, and never lifts
// one over another whose text is worth a tenth more: how many peers there are is what
// strangers say (see package popularity).
const (
	weightHolders = 0.1
	mostHolders   = 128
)

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
	Readme   string  // plain text of its beginning; the index keeps its words only
	Holders  float64 // peers that hold it, about; 0 or less if unknown
}

// Key tells packages apart.
type Key struct {
	Name      string
	Publisher shared.PublisherID
}

// Index is safe for concurrent use; readers do not wait for each other.
type Index struct {
	mu       sync.RWMutex // guards the fields below
	docs     []document   // by number
	lengths  []float32    // by number; apart from docs, because every query reads them
	factors  []float32    // by number: what the text's score is multiplied by
	next     []uint32     // by number: another package of the same name, or none
	free     []uint32     // numbers without a document
	keys     map[Key]uint32
	names    map[string]uint32 // the first package of a name
	words    vocabulary
	length   float64 // of all documents together
	changes  uint64  // how often documents were put and removed
	scratch  sync.Pool
	ordering ordering
}

// none is no number.
const none = math.MaxUint32

// document is a package as a search returns it, and its words. One without a name is
// none.
type document struct {
	name, version, title, description string
	author, category, license         string
	publisher                         shared.PublisherID
	tags                              []string
	published                         time.Time
	deprecated                        bool
	words                             numbers
}

// ordering is all documents by name, made when it is asked for.
type ordering struct {
	mu      sync.Mutex
	numbers []uint32
	at      uint64 // Index.changes then
}

// New makes an empty index.
func New() *Index {
	x := &Index{keys: map[Key]uint32{}, names: map[string]uint32{}, words: newVocabulary()}
	x.scratch.New = func() any { return new(scratch) }
	return x
}

func key(s shared.PackageSummary) Key { return Key{s.Name, s.Publisher} }

// Put adds a package, or replaces the one of the same name and publisher.
func (x *Index) Put(doc Doc) {
	said := weigh(doc)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changes++
	k := key(doc.Summary)
	x.remove(k)
	number := x.enter()
	words := make([]uint32, 0, len(said.weights))
	for word, weight := range said.weights {
		words = append(words, x.words.add(word, number, weight))
	}
	slices.Sort(words)
	p := &doc.Summary
	x.docs[number] = document{
		name: p.Name, publisher: p.Publisher, version: p.Version, title: p.Title, description: p.Description, author: p.Author,
		category: p.Category, license: p.License, tags: p.Tags, published: p.PublishedAt, deprecated: p.Deprecated, words: pack(words),
	}
	x.keys[k] = number
	x.next[number] = none
	if first, ok := x.names[p.Name]; ok {
		x.next[number] = first
	}
	x.names[p.Name] = number
	x.lengths[number], x.factors[number] = said.length, factor(p.Deprecated, doc.Holders)
	x.length += float64(said.length)
}

func (x *Index) enter() (number uint32) {
	if n := len(x.free); n > 0 {
		number, x.free = x.free[n-1], x.free[:n-1]
		return number
	}
	x.docs, x.lengths = append(room(x.docs), document{}), append(room(x.lengths), 0)
	x.factors, x.next = append(room(x.factors), 1), append(room(x.next), none)
	return uint32(len(x.docs) - 1)
}

// summary is the package of a number as a search returns it.
func (x *Index) summary(number uint32) shared.PackageSummary {
	d := &x.docs[number]
	return shared.PackageSummary{
		Name: d.name, Publisher: d.publisher, Version: d.version, Title: d.title, Description: d.description, Author: d.author,
		Category: d.category, License: d.license, Tags: d.tags, PublishedAt: d.published, Deprecated: d.deprecated,
	}
}

// factor is what the score of a package's text is multiplied by.
func factor(deprecated bool, holders float64) float32 {
	f := 1.0
	if holders > 0 {
		f += weightHolders * math.Log1p(min(holders, mostHolders)) / math.Log1p(mostHolders)
	}
	if deprecated {
		f *= deprecatedFactor
	}
	return float32(f)
}

// SetHolders says anew how many peers hold a package, about; one that is not there is
// no error.
func (x *Index) SetHolders(k Key, holders float64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if number, ok := x.keys[k]; ok {
		x.factors[number] = factor(x.docs[number].deprecated, holders)
	}
}

// Remove takes a package out; one that is not there is no error.
func (x *Index) Remove(name string, publisher shared.PublisherID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changes++
	x.remove(Key{name, publisher})
}

func (x *Index) remove(k Key) {
	number, ok := x.keys[k]
	if !ok {
		return
	}
	d := &x.docs[number]
	for word := range d.words.all() {
		x.words.remove(word, number)
	}
	switch first := x.names[d.name]; {
	case first != number:
		for x.next[first] != number {
			first = x.next[first]
		}
		x.next[first] = x.next[number]
	case x.next[number] == none:
		delete(x.names, d.name)
	default:
		x.names[d.name] = x.next[number]
	}
	x.length -= float64(x.lengths[number])
	delete(x.keys, k)
	*d = document{}
	x.free = append(x.free, number)
}

// weighed is what a document says. Its length, in quarters of a word, leaves out the
// readme: that is short for everybody, and having one must not count against a package.
type weighed struct {
	weights map[string]uint8
	length  float32
}

func weigh(doc Doc) weighed {
	w := weighed{weights: map[string]uint8{}}
	w.length += w.add(weightName, doc.Summary.Name)
	w.length += w.add(weightTitle, doc.Summary.Title)
	w.length += w.add(weightKeyword, doc.Keywords...)
	w.length += w.add(weightTag, doc.Summary.Tags...)
	w.length += w.add(weightCategory, doc.Summary.Category)
	w.length += w.add(weightAuthor, doc.Summary.Author)
	w.length += w.add(weightDescription, doc.Summary.Description)
	w.add(weightReadme, doc.Readme)
	return w
}

// add counts the words of texts and gives the length of them together.
func (w *weighed) add(weight int, texts ...string) (length float32) {
	for _, text := range texts {
		for _, word := range words(text) {
			if len(w.weights) >= maxDocWords {
				return length
			}
			w.weights[word] = uint8(min(int(w.weights[word])+weight, maxWeight))
			length += float32(weight)
		}
	}
	return length
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
	return x.SearchAmong(q, nil)
}

// SearchAmong is a Search that leaves out all packages but those of among; nil stands
// for all. The index does not know what [shared.SearchQuery.MinReputation] asks for: it
// is for the caller to say who fulfils it.
func (x *Index) SearchAmong(q shared.SearchQuery, among map[Key]bool) (page []shared.PackageSummary, total int) {
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
		return x.list(filter{q, among}, q.Offset, limit)
	}
	best := selection{index: x, order: q.Sort, most: q.Offset + limit}
	wanted := filter{q, among}
	if all {
		for _, number := range x.byName() {
			if wanted.fits(&x.docs[number]) {
				total++
				best.offer(hit{number, 0})
			}
		}
	}
	s, _ := x.scratch.Get().(*scratch)
	defer x.scratch.Put(s)
	s.begin(len(x.docs), len(x.words.terms))
	meanings := make([][]meaning, len(typed))
	for i, word := range typed {
		meanings[i] = x.words.expand(word, i == len(typed)-1, s.counts)
		x.score(s, meanings[i])
	}
	total += x.choose(&best, s.scores[:len(x.docs)], q.Text, wanted)
	for _, h := range best.page(q.Offset) {
		summary := x.summary(h.number)
		summary.Score = float64(h.score)
		summary.Matches = x.matches(h.number, meanings)
		page = append(page, summary)
	}
	return page, total
}

// list is a search without words.
func (x *Index) list(wanted filter, offset, limit int) (page []shared.PackageSummary, total int) {
	for _, number := range x.byName() {
		if !wanted.fits(&x.docs[number]) {
			continue
		}
		if total++; total > offset && len(page) < limit {
			page = append(page, x.summary(number))
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
	p, q := &x.docs[a], &x.docs[b]
	return cmp.Or(cmp.Compare(p.name, q.name), cmp.Compare(p.publisher, q.publisher))
}

// scratch is the memory of one query: all zero between two.
type scratch struct {
	scores []float32 // by document
	best   []float32 // by document: of one typed word
	found  []uint32  // documents with a best, unless a word that many have is among its meanings
	counts []uint8   // by word
}

func (s *scratch) begin(docs, words int) {
	if len(s.scores) < docs {
		s.scores, s.best = make([]float32, docs+docs/8), make([]float32, docs+docs/8)
	}
	if len(s.counts) < words {
		s.counts = make([]uint8, words+words/8)
	}
}

// score adds what one typed word is worth to every document that has a word which it
// may stand for; a document counts its best one.
//
// Where many documents have a word, those that lack it are computed, too (it is worth 0
// to them): a processor cannot guess which of two comes next, and guessing wrongly costs
// more than a division.
func (x *Index) score(s *scratch, meanings []meaning) {
	average := x.length / float64(max(len(x.keys), 1))
	fixed, each := float32(oneWord*k1*(1-b)), float32(oneWord*k1*b/average)
	reached := 0 // of the documents up to here some have a best that is not among the found
	for _, m := range meanings {
		t := &x.words.terms[m.number]
		idf := math.Log(1 + (float64(len(x.keys)-t.count)+0.5)/(float64(t.count)+0.5))
		worth := m.factor * float32(idf*(k1+1))
		if !t.dense() {
			for i, number := range t.docs {
				s.take(number, worth, float32(t.weights[i]), fixed+each*x.lengths[number])
			}
			continue
		}
		lengths := x.lengths[:len(t.weights)]
		if len(meanings) == 1 {
			scores := s.scores[:len(t.weights)]
			for number, weight := range t.weights {
				weight := float32(weight)
				scores[number] += worth * weight / (weight + (fixed + each*lengths[number]))
			}
			return
		}
		reached = max(reached, len(t.weights))
		best := s.best[:len(t.weights)]
		for number, weight := range t.weights {
			weight := float32(weight)
			best[number] = max(best[number], worth*weight/(weight+(fixed+each*lengths[number])))
		}
	}
	for number, best := range s.best[:reached] {
		s.scores[number] += best
	}
	clear(s.best[:reached])
	for _, number := range s.found {
		s.scores[number] += s.best[number]
		s.best[number] = 0
	}
	s.found = s.found[:0]
}

// take notes what an occurrence of a word is worth to a document.
func (s *scratch) take(number uint32, worth, weight, discount float32) {
	value, best := worth*weight/(weight+discount), s.best[number]
	if best == 0 {
		s.found = append(s.found, number)
	}
	if value > best {
		s.best[number] = value
	}
}

// choose offers every document that has a score and is wanted, counts them, and leaves
// no score behind. What is deprecated counts less, what many hold more, and most of all
// packages whose name was typed.
func (x *Index) choose(best *selection, scores []float32, text string, wanted filter) (total int) {
	if wanted.some() {
		for number, score := range scores {
			if score != 0 && !wanted.fits(&x.docs[number]) {
				scores[number] = 0
			}
		}
	}
	number, ok := x.names[strings.ToLower(strings.TrimSpace(text))]
	for ; ok && number != none; number = x.next[number] {
		if wanted.fits(&x.docs[number]) {
			total++
			best.offer(hit{number, scores[number]*x.factors[number] + exactName})
			scores[number] = 0
		}
	}
	factors := x.factors[:len(scores)]
	for number, score := range scores {
		if score != 0 {
			total++
		}
		if score *= factors[number]; score >= best.least && score != 0 {
			best.offer(hit{uint32(number), score})
		}
	}
	clear(scores)
	return total
}

// matches lists the words of a document that a query has found.
func (x *Index) matches(number uint32, meanings [][]meaning) (texts []string) {
	words := slices.Collect(x.docs[number].words.all())
	for _, list := range meanings {
		for _, m := range list {
			if _, ok := slices.BinarySearch(words, m.number); ok && !slices.Contains(texts, x.words.terms[m.number].text) {
				texts = append(texts, x.words.terms[m.number].text)
			}
		}
	}
	return texts
}

// filter is what a query asks of a package besides its words.
type filter struct {
	q     shared.SearchQuery
	among map[Key]bool // nil: all
}

// some tells whether there may be packages that do not fit.
func (f *filter) some() bool {
	return f.q.Category != "" || f.q.Tag != "" || f.q.Publisher != "" || f.q.License != "" || f.among != nil
}

func (f *filter) fits(d *document) bool {
	return (f.q.Category == "" || strings.EqualFold(f.q.Category, d.category)) &&
		(f.q.Tag == "" || slices.ContainsFunc(d.tags, func(tag string) bool { return strings.EqualFold(tag, f.q.Tag) })) &&
		(f.q.Publisher == "" || strings.HasPrefix(string(d.publisher), string(f.q.Publisher))) &&
		(f.q.License == "" || strings.EqualFold(f.q.License, d.license)) &&
		(f.among == nil || f.among[Key{d.name, d.publisher}])
}
