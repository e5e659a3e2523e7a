package search

import (
	"slices"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

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
	if r < 0x0e00 { // all of them are behind the alphabets of Europe and the Near East
		return false
	}
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// trigrams are the runs of three letters of a word between marks for its ends, each
// as a number, and its first letter alone.
func trigrams(word string) []uint64 {
	padded := append(append([]rune{'^'}, []rune(word)...), '$')
	out := make([]uint64, 0, len(padded))
	out = append(out, gram(0, '^', padded[1]))
	for i := range len(padded) - 2 {
		out = append(out, gram(padded[i], padded[i+1], padded[i+2]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gram packs three letters: a rune has 21 bits.
func gram(a, b, c rune) uint64 { return uint64(a)<<42 | uint64(b)<<21 | uint64(c) }

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
