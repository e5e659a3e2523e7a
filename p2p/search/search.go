// Package search ranks packages for a query, in memory: BM25F over weighted
// fields, with the last word completed as it is typed and typing errors forgiven.
// It holds what it is given and finds it again; where packages come from and who
// may be trusted is for others to know (packages catalog and p2p).
package search

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/unicode/norm"

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
	docs     map[string]*entry
	postings map[string]map[*entry]float64 // word → document → weighted frequency
	grams    map[string]map[string]bool    // trigram → words
	length   float64                       // of all documents together
}

type entry struct {
	doc    Doc
	words  map[string]float64
	length float64
}

// New makes an empty index.
func New() *Index {
	return &Index{docs: map[string]*entry{}, postings: map[string]map[*entry]float64{}, grams: map[string]map[string]bool{}}
}

func key(s shared.PackageSummary) string { return s.Name + "\x00" + string(s.Publisher) }

// Put adds a package, or replaces the one of the same name and publisher.
func (x *Index) Put(doc Doc) {
	e := &entry{doc: doc, words: map[string]float64{}}
	e.add(weightName, doc.Summary.Name)
	e.add(weightTitle, doc.Summary.Title)
	e.add(weightKeyword, doc.Keywords...)
	e.add(weightTag, doc.Summary.Tags...)
	e.add(weightCategory, doc.Summary.Category)
	e.add(weightAuthor, doc.Summary.Author)
	e.add(weightDescription, doc.Summary.Description)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key(doc.Summary))
	x.docs[key(doc.Summary)] = e
	x.length += e.length
	for word, frequency := range e.words {
		if x.postings[word] == nil {
			x.postings[word] = map[*entry]float64{}
			for _, gram := range trigrams(word) {
				if x.grams[gram] == nil {
					x.grams[gram] = map[string]bool{}
				}
				x.grams[gram][word] = true
			}
		}
		x.postings[word][e] = frequency
	}
}

// Remove takes a package out; one that is not there is no error.
func (x *Index) Remove(name string, publisher shared.PublisherID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key(shared.PackageSummary{Name: name, Publisher: publisher}))
}

func (e *entry) add(weight float64, texts ...string) {
	for _, text := range texts {
		for _, word := range words(text) {
			if len(e.words) >= maxDocWords {
				return
			}
			e.words[word] += weight
			e.length += weight
		}
	}
}

func (x *Index) remove(k string) {
	e := x.docs[k]
	if e == nil {
		return
	}
	delete(x.docs, k)
	x.length -= e.length
	for word := range e.words {
		delete(x.postings[word], e)
		if len(x.postings[word]) > 0 {
			continue
		}
		delete(x.postings, word)
		for _, gram := range trigrams(word) {
			delete(x.grams[gram], word)
			if len(x.grams[gram]) == 0 {
				delete(x.grams, gram)
			}
		}
	}
}

// Len counts the packages.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.docs)
}

// Search finds packages, the best first; equal ones by name, then publisher. All
// words count, none is required, but a document that has more of them wins.
func (x *Index) Search(q shared.SearchQuery) (page []shared.PackageSummary, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	typed := words(q.Text)
	typed = typed[:min(len(typed), maxWords)]
	scores := map[*entry]float64{}
	if len(typed) == 0 {
		for _, e := range x.docs {
			scores[e] = 0
		}
	}
	for i, word := range typed {
		x.score(scores, word, i == len(typed)-1)
	}
	name := strings.ToLower(strings.TrimSpace(q.Text))
	var found []shared.PackageSummary
	for e, score := range scores {
		if !fits(q, e.doc.Summary) {
			continue
		}
		s := e.doc.Summary
		s.Score = score
		if s.Deprecated {
			s.Score *= deprecatedFactor
		}
		if s.Name == name {
			s.Score += exactName
		}
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b shared.PackageSummary) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Publisher, b.Publisher))
	})
	total = len(found)
	limit := q.Limit
	if limit == 0 {
		limit = 20
	}
	begin := min(q.Offset, total)
	return found[begin:min(begin+limit, total)], total
}

// score adds what one typed word is worth to every document that has it, or a
// word it may stand for; a document counts its best one.
func (x *Index) score(scores map[*entry]float64, word string, last bool) {
	best := map[*entry]float64{}
	average := x.length / float64(max(len(x.docs), 1))
	for candidate, factor := range x.expand(word, last) {
		posting := x.postings[candidate]
		idf := math.Log(1 + (float64(len(x.docs)-len(posting))+0.5)/(float64(len(posting))+0.5))
		for e, frequency := range posting {
			saturated := frequency * (k1 + 1) / (frequency + k1*(1-b+b*e.length/average))
			best[e] = max(best[e], factor*idf*saturated)
		}
	}
	for e, value := range best {
		scores[e] += value
	}
}

// expand lists the indexed words that a typed one may stand for.
func (x *Index) expand(word string, last bool) map[string]float64 {
	out := map[string]float64{}
	if _, ok := x.postings[word]; ok {
		out[word] = 1
	}
	allowed := typos(word)
	shared := map[string]int{}
	grams := trigrams(word)
	for _, gram := range grams {
		for candidate := range x.grams[gram] {
			shared[candidate]++
		}
	}
	// Every typo spoils at most three trigrams.
	candidates := make([]string, 0, len(shared))
	for candidate, count := range shared {
		if count >= len(grams)-3*max(allowed, 1) || strings.HasPrefix(candidate, word) {
			candidates = append(candidates, candidate)
		}
	}
	slices.SortFunc(candidates, func(a, b string) int { return cmp.Or(cmp.Compare(shared[b], shared[a]), cmp.Compare(a, b)) })
	for _, candidate := range candidates {
		if len(out) >= maxExpanded {
			break
		}
		switch {
		case candidate == word:
		case last && strings.HasPrefix(candidate, word):
			out[candidate] = prefixFactor
		case allowed > 0 && distance(word, candidate, allowed) <= allowed:
			out[candidate] = typoFactor
		}
	}
	return out
}

// typos is how many typing errors a word of this length may have: in a short
// word one error makes another word.
func typos(word string) int {
	switch n := len([]rune(word)); {
	case n < 4:
		return 0
	case n < 8:
		return 1
	}
	return 2
}

// fits applies the query's filters.
func fits(q shared.SearchQuery, s shared.PackageSummary) bool {
	return (q.Category == "" || strings.EqualFold(q.Category, s.Category)) &&
		(q.Tag == "" || slices.ContainsFunc(s.Tags, func(tag string) bool { return strings.EqualFold(tag, q.Tag) })) &&
		(q.Publisher == "" || strings.HasPrefix(string(s.Publisher), string(q.Publisher))) &&
		(q.License == "" || strings.EqualFold(q.License, s.License))
}

// words splits a text into lower-case words. Scripts without spaces (Han, Kana,
// Thai…) give overlapping pairs of letters, which find any part of a word.
func words(text string) []string {
	var out []string
	var word []rune
	flush := func() {
		if len(word) == 0 {
			return
		}
		if !spaceless(word[0]) {
			if w := string(word); len(w) <= maxWord {
				out = append(out, w)
			}
		} else if len(word) == 1 {
			out = append(out, string(word))
		} else {
			for i := range len(word) - 1 {
				out = append(out, string(word[i:i+2]))
			}
		}
		word = word[:0]
	}
	for _, r := range norm.NFKC.String(text) {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			flush()
			continue
		}
		if len(word) > 0 && spaceless(word[0]) != spaceless(r) {
			flush()
		}
		word = append(word, unicode.ToLower(r))
	}
	flush()
	return out
}

func spaceless(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// trigrams are the runs of three letters of a word between marks for its ends.
func trigrams(word string) []string {
	padded := append(append([]rune{'^'}, []rune(word)...), '$')
	if len(padded) < 3 {
		return nil
	}
	var out []string
	for i := range len(padded) - 2 {
		gram := string(padded[i : i+3])
		if !slices.Contains(out, gram) {
			out = append(out, gram)
		}
	}
	return out
}

// distance is the number of letters to insert, delete, replace or swap with the
// next one (optimal string alignment); anything over most is most+1.
func distance(from, to string, most int) int {
	a, c := []rune(from), []rune(to)
	if abs(len(a)-len(c)) > most {
		return most + 1
	}
	before, previous, current := make([]int, len(c)+1), make([]int, len(c)+1), make([]int, len(c)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		least := i
		for j := 1; j <= len(c); j++ {
			cost := 1
			if a[i-1] == c[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == c[j-2] && a[i-2] == c[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
			least = min(least, current[j])
		}
		if least > most {
			return most + 1
		}
		before, previous, current = previous, current, before
	}
	return previous[len(c)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
