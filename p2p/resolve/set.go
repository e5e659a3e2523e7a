package resolve

import "math/bits"

// set is a set of choices for one package: its versions by number, newest first, and,
// behind the last one, that the package is not installed at all. All sets of one
// package have the same length; they are never changed once they are shared.
type set []uint64

// newSet has room for n choices and holds none.
func newSet(n int) set { return make(set, (n+63)/64) }

// fullSet holds n choices.
func fullSet(n int) set {
	s := newSet(n)
	for i := range n {
		s.add(i)
	}
	return s
}

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) count() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

func (s set) empty() bool {
	for _, word := range s {
		if word != 0 {
			return false
		}
	}
	return true
}

func (s set) equal(other set) bool {
	for i, word := range s {
		if word != other[i] {
			return false
		}
	}
	return true
}

// within tells whether other holds all of s.
func (s set) within(other set) bool {
	for i, word := range s {
		if word&^other[i] != 0 {
			return false
		}
	}
	return true
}

// meets tells whether both hold something.
func (s set) meets(other set) bool {
	for i, word := range s {
		if word&other[i] != 0 {
			return true
		}
	}
	return false
}

func (s set) and(other set) set {
	out := make(set, len(s))
	for i, word := range s {
		out[i] = word & other[i]
	}
	return out
}

func (s set) or(other set) set {
	out := make(set, len(s))
	for i, word := range s {
		out[i] = word | other[i]
	}
	return out
}

// not is what all holds and s does not.
func (s set) not(all set) set {
	out := make(set, len(s))
	for i, word := range all {
		out[i] = word &^ s[i]
	}
	return out
}
