package search

import (
	"cmp"
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

// term is a word and the documents that have it, in ascending order.
type term struct {
	text    string
	docs    []uint32
	weights []float32 // of the word in each, see weightName and so on
}

func newVocabulary() vocabulary {
	return vocabulary{numbers: map[string]uint32{}, grams: map[uint64][]uint32{}}
}

// add says that a document has a word, which it had not before.
func (v *vocabulary) add(word string, doc uint32, weight float32) (number uint32) {
	number, ok := v.numbers[word]
	if !ok {
		number = v.enter(word)
	}
	t := &v.terms[number]
	at := len(t.docs)
	if at > 0 && t.docs[at-1] > doc {
		at, _ = slices.BinarySearch(t.docs, doc)
	}
	t.docs = slices.Insert(t.docs, at, doc)
	t.weights = slices.Insert(t.weights, at, weight)
	return number
}

func (v *vocabulary) enter(word string) (number uint32) {
	if n := len(v.free); n > 0 {
		number, v.free = v.free[n-1], v.free[:n-1]
	} else {
		number = uint32(len(v.terms))
		v.terms = append(v.terms, term{})
	}
	word = strings.Clone(word) // not the text around it
	v.terms[number] = term{text: word}
	v.numbers[word] = number
	for _, g := range trigrams(word) {
		v.grams[g] = append(v.grams[g], number)
	}
	return number
}

// remove says that a document has a word no more.
func (v *vocabulary) remove(number, doc uint32) {
	t := &v.terms[number]
	at, _ := slices.BinarySearch(t.docs, doc)
	t.docs, t.weights = slices.Delete(t.docs, at, at+1), slices.Delete(t.weights, at, at+1)
	if len(t.docs) > 0 {
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
		return cmp.Or(cmp.Compare(b.factor, a.factor), cmp.Compare(len(y.docs), len(x.docs)), cmp.Compare(x.text, y.text))
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
