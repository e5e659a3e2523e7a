package search

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
)

// vocabulary is the words of all documents, by number, and where they occur.
type vocabulary struct {
	numbers map[string]uint32
	terms   []term   // by number
	free    []uint32 // numbers without a word
	grams   map[uint64][]uint32
}

// term is a word and the documents that have it: their numbers in ascending order and
// beside each its weight there, see weightName and so on; or, if many have it, a weight
// for every number up to the last one, 0 for those that lack it.
type term struct {
	text    string
	docs    []uint32 // nil: dense
	weights []uint8
	count   int // documents that have it
}

func (t *term) dense() bool { return t.docs == nil }

// A term is stored dense from denseFrom documents on, if one document in denseShare has
// it: five bytes for each that does are then more than one for everybody. It stays so
// until half of that are left. Passing over gaps takes a little time, which is why it is
// not done for less.
const (
	denseFrom  = 1024
	denseShare = 4
)

func newVocabulary() vocabulary {
	return vocabulary{numbers: map[string]uint32{}, grams: map[uint64][]uint32{}}
}

// add says that a document has a word, which it had not before.
func (v *vocabulary) add(word string, doc uint32, weight uint8) (number uint32) {
	number, ok := v.numbers[word]
	if !ok {
		number = v.enter(word)
	}
	v.terms[number].add(doc, weight)
	return number
}

func (t *term) add(doc uint32, weight uint8) {
	t.count++
	if t.dense() {
		for int(doc) >= len(t.weights) {
			t.weights = append(room(t.weights), 0)
		}
		t.weights[doc] = weight
		return
	}
	at := len(t.docs)
	if at > 0 && t.docs[at-1] > doc {
		at, _ = slices.BinarySearch(t.docs, doc)
	}
	t.docs = slices.Insert(room(t.docs), at, doc)
	t.weights = slices.Insert(room(t.weights), at, weight)
	if last := t.docs[len(t.docs)-1]; t.count >= denseFrom && t.count > int(last)/denseShare {
		t.fill(last)
	}
}

// fill makes a term dense.
func (t *term) fill(last uint32) {
	weights := make([]uint8, last+1)
	for i, doc := range t.docs {
		weights[doc] = t.weights[i]
	}
	t.docs, t.weights = nil, weights
}

func (t *term) remove(doc uint32) {
	t.count--
	if !t.dense() {
		at, _ := slices.BinarySearch(t.docs, doc)
		t.docs, t.weights = slices.Delete(t.docs, at, at+1), slices.Delete(t.weights, at, at+1)
		return
	}
	t.weights[doc] = 0
	if t.count >= denseFrom/2 && t.count > len(t.weights)/denseShare/2 {
		return
	}
	docs, weights := make([]uint32, 0, t.count), make([]uint8, 0, t.count)
	for doc, weight := range t.weights {
		if weight > 0 {
			docs, weights = append(docs, uint32(doc)), append(weights, weight)
		}
	}
	t.docs, t.weights = docs, weights
}

// room makes room for one more, where there is none, by a sixteenth: append would take a
// quarter, and an index is filled once and hardly grows after that.
func room[T any](s []T) []T {
	if len(s) < cap(s) || len(s) < 256 {
		return s
	}
	return append(make([]T, 0, len(s)+len(s)/16), s...)
}

func (v *vocabulary) enter(word string) (number uint32) {
	if n := len(v.free); n > 0 {
		number, v.free = v.free[n-1], v.free[:n-1]
	} else {
		number = uint32(len(v.terms))
		v.terms = append(room(v.terms), term{})
	}
	word = strings.Clone(word) // not the text around it
	v.terms[number] = term{text: word, docs: []uint32{}}
	v.numbers[word] = number
	for _, g := range trigrams(word) {
		v.grams[g] = append(room(v.grams[g]), number)
	}
	return number
}

// remove says that a document has a word no more.
func (v *vocabulary) remove(number, doc uint32) {
	t := &v.terms[number]
	t.remove(doc)
	if t.count > 0 {
		return
	}
	for _, g := range trigrams(t.text) {
		list := v.grams[g]
		i := slices.Index(list, number)
		list[i] = list[len(list)-1]
		if v.grams[g] = list[:len(list)-1]; len(list) == 1 {
			delete(v.grams, g)
		}
	}
	delete(v.numbers, t.text)
	*t = term{}
	v.free = append(v.free, number)
}

// meaning is a word that a typed one may stand for, and how much less it counts.
type meaning struct {
	number uint32
	factor float32
}

// expand lists the words that a typed one may stand for: itself; if it is the last
// one, those that it begins; and if it is not known, those that it misspells.
func (v *vocabulary) expand(word string, last bool, counts []uint8) (out []meaning) {
	number, known := v.numbers[word]
	if known {
		out = append(out, meaning{number, 1})
	}
	var more []meaning
	if last {
		for _, candidate := range v.grams[rarest(v, word)] {
			if text := v.terms[candidate].text; len(text) > len(word) && strings.HasPrefix(text, word) {
				more = append(more, meaning{candidate, prefixFactor})
			}
		}
	}
	if allowed := typos(word); !known && allowed > 0 {
		more = append(more, v.misspelt(word, allowed, counts)...)
	}
	slices.SortFunc(more, func(a, b meaning) int {
		x, y := v.terms[a.number], v.terms[b.number]
		return cmp.Or(cmp.Compare(b.factor, a.factor), cmp.Compare(y.count, x.count), cmp.Compare(x.text, y.text))
	})
	more = slices.CompactFunc(more, func(a, b meaning) bool { return a.number == b.number })
	return append(out, more[:min(len(more), maxExpanded)]...)
}

// rarest is the trigram of the beginning of a word that the fewest words have.
func rarest(v *vocabulary, word string) uint64 {
	padded := append([]rune{'^'}, []rune(word)...)
	if len(padded) < 3 {
		return gram(0, '^', padded[1])
	}
	best := gram(padded[0], padded[1], padded[2])
	for i := range len(padded) - 2 {
		if g := gram(padded[i], padded[i+1], padded[i+2]); len(v.grams[g]) < len(v.grams[best]) {
			best = g
		}
	}
	return best
}

// misspelt finds words at most allowed errors away. Every error spoils at most three
// trigrams, so the others must be there. counts has a zero for every term.
func (v *vocabulary) misspelt(word string, allowed int, counts []uint8) (out []meaning) {
	grams := trigrams(word)
	need := max(1, len(grams)-1-3*allowed)
	var touched []uint32
	for _, g := range grams {
		if g>>42 == 0 {
			continue // the first letter alone says too little
		}
		for _, candidate := range v.grams[g] {
			if counts[candidate] == 0 {
				touched = append(touched, candidate)
			}
			counts[candidate]++
		}
	}
	for _, candidate := range touched {
		if int(counts[candidate]) >= need && distance(word, v.terms[candidate].text, allowed) <= allowed {
			out = append(out, meaning{candidate, typoFactor})
		}
		counts[candidate] = 0
	}
	return out
}

// numbers is an ascending list, each as the distance to the one before it: most of a
// document's words take two bytes.
type numbers string

func pack(ascending []uint32) numbers {
	var packed []byte
	before := uint32(0)
	for _, n := range ascending {
		packed = binary.AppendUvarint(packed, uint64(n-before))
		before = n
	}
	return numbers(packed)
}

// all visits the list in its order.
func (packed numbers) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		number := uint32(0)
		for rest := []byte(packed); len(rest) > 0; {
			distance, n := binary.Uvarint(rest)
			number, rest = number+uint32(distance), rest[n:]
			if !yield(number) {
				return
			}
		}
	}
}
